"""How Consul is found, fetched, checked and unpacked, without touching the network."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from meshkit import consul_binary
from meshkit.consul_agent import ConsulPorts, consul_command
from meshkit.consul_binary import ConsulUnavailable, PinnedPackage, find_consul, obtain_consul
from meshkit.deb_package import BadPackage, unpack_deb, unpack_deb_in_python

BINARY = b"#!/bin/sh\necho Consul\n"


def ar_member(name: str, content: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


def tar_of(path: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as tar:
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def write_deb(target: Path, path: str = "./usr/bin/consul") -> Path:
    parts = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", tar_of("./control", b"x")),
        ("data.tar.xz", tar_of(path, BINARY)),
    ]
    target.write_bytes(b"!<arch>\n" + b"".join(ar_member(name, content) for name, content in parts))
    return target


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror on disk, with a package for this machine, and no Consul on PATH."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    deb = write_deb(folder / "consul.deb")
    package = PinnedPackage(path="consul.deb", sha256=hashlib.sha256(deb.read_bytes()).hexdigest())
    monkeypatch.setattr(consul_binary, "_package_of_this_machine", lambda: package)
    monkeypatch.setattr(consul_binary, "MIRRORS", ((tmp_path / "absent").as_uri() + "/", folder.as_uri() + "/"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    return folder


def test_the_second_mirror_is_tried_when_the_first_fails(mirror: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    binary = obtain_consul(cache)
    assert binary.read_bytes() == BINARY
    assert binary.stat().st_mode & 0o100
    assert find_consul(cache) == binary


def test_a_cached_binary_needs_no_network(mirror: Path, tmp_path: Path) -> None:
    first = obtain_consul(tmp_path / "cache")
    (mirror / "consul.deb").unlink()
    assert obtain_consul(tmp_path / "cache") == first


def test_consul_on_path_comes_first(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "bin" / "consul"
    own.parent.mkdir()
    own.write_bytes(BINARY)
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(own.parent))
    assert obtain_consul(tmp_path / "cache") == own


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(mirror: Path, tmp_path: Path) -> None:
    write_deb(mirror / "consul.deb", "./usr/bin/other")
    with pytest.raises(ConsulUnavailable, match="checksum") as caught:
        obtain_consul(tmp_path / "cache")
    assert "--registry file" in str(caught.value)
    assert not list((tmp_path / "cache").rglob("consul.deb"))


def test_an_unknown_machine_gets_a_sentence_on_how_to_install_it(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consul_binary, "_package_of_this_machine", lambda: None)
    with pytest.raises(ConsulUnavailable, match="install Consul from"):
        obtain_consul(mirror / "cache")


def test_both_ways_of_unpacking_give_the_same_file(tmp_path: Path) -> None:
    deb = write_deb(tmp_path / "one.deb")
    unpack_deb(deb, tmp_path / "a")
    unpack_deb_in_python(deb, tmp_path / "b")
    assert (tmp_path / "a/usr/bin/consul").read_bytes() == (tmp_path / "b/usr/bin/consul").read_bytes() == BINARY


@pytest.mark.parametrize("content", [b"", b"garbage", b"!<arch>\n"])
def test_a_file_that_is_no_package_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.deb").write_bytes(content)
    with pytest.raises(BadPackage):
        unpack_deb_in_python(tmp_path / "bad.deb", tmp_path / "root")


def test_a_package_cannot_write_outside_its_root(tmp_path: Path) -> None:
    deb = write_deb(tmp_path / "evil.deb", "../outside")
    with pytest.raises(tarfile.TarError):
        unpack_deb_in_python(deb, tmp_path / "root")
    assert not (tmp_path / "outside").exists()


def test_the_agent_listens_on_loopback_only_and_runs_no_scripts(tmp_path: Path) -> None:
    command = consul_command(Path("/bin/consul"), data_dir=tmp_path, ports=ConsulPorts(http=1, server=2, serf=3))
    config = json.loads((tmp_path / "agent.json").read_text())
    assert command == ["/bin/consul", "agent", f"-config-file={tmp_path / 'agent.json'}"]
    assert config["bind_addr"] == config["client_addr"] == "127.0.0.1"
    assert config["enable_script_checks"] is config["enable_local_script_checks"] is False
    assert config["ports"]["http"] == 1


@pytest.mark.parametrize(
    ("said", "closes_it"), [("Consul v1.8.7", False), ("Consul v1.21.0\nRevision x", True), ("", False)]
)
def test_a_newer_consul_opens_no_further_port(tmp_path: Path, said: str, closes_it: bool) -> None:
    binary = tmp_path / "consul"
    binary.write_text(f"#!/bin/sh\ncat <<'END'\n{said}\nEND\n")
    binary.chmod(0o755)
    consul_command(binary, data_dir=tmp_path / "data")
    config = json.loads((tmp_path / "data" / "agent.json").read_text())
    assert ("grpc_tls" in config["ports"]) is closes_it
