"""Decides which Consul binary this machine runs: the one on PATH, else a pinned Debian package unpacked without root.

Knows nothing of how an agent is configured; see `consul_agent`.
"""

import hashlib
import os
import platform
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from meshkit.deb_package import BadPackage, unpack_deb

MIRRORS = ("http://deb.debian.org/debian/", "http://archive.debian.org/debian/")
CONNECT_TIMEOUT_S = 20.0
CHUNK_BYTES = 256 * 1024
INSTALL_HINT = (
    "install Consul from https://developer.hashicorp.com/consul/install so that `consul` is on PATH, "
    "or use the file registry (`--registry file`), which serves one machine"
)

Say = Callable[[str], None]


class ConsulUnavailable(Exception):
    """No Consul can be had here; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedPackage:
    """One file of Debian's archive. Debian carries Consul only up to bullseye; it is one static binary."""

    path: str
    sha256: str

    @property
    def file_name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


PACKAGES = {
    "x86_64": PinnedPackage(
        path="pool/main/c/consul/consul_1.8.7+dfsg1-2+b3_amd64.deb",
        sha256="e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9",
    ),
    "aarch64": PinnedPackage(
        path="pool/main/c/consul/consul_1.8.7+dfsg1-2+b3_arm64.deb",
        sha256="7318cfa77a7ba6f71dd096e44353279de246ffc6561216ace42353685dcf8255",
    ),
}


def default_cache_dir() -> Path:
    """The project's cache: MESHCTL_CACHE_DIR, else `.cache/` in the checkout, else the user's cache."""
    chosen = os.environ.get("MESHCTL_CACHE_DIR")
    if chosen:
        return Path(chosen)
    checkout = Path(__file__).resolve().parent.parent
    is_checkout = (checkout / "pyproject.toml").exists()
    return checkout / ".cache" if is_checkout else Path.home() / ".cache" / "inference-mesh"


def find_consul(cache_dir: Path | None = None) -> Path | None:
    """The binary if it is here already: on PATH, else in the cache. Never touches the network."""
    on_path = shutil.which("consul")
    if on_path:
        return Path(on_path)
    package = _package_of_this_machine()
    cached = _cached_binary(cache_dir or default_cache_dir(), package) if package else None
    return cached if cached and cached.exists() else None


def obtain_consul(cache_dir: Path | None = None, say: Say = lambda text: None) -> Path:
    """The binary, fetched once if need be. Raises ConsulUnavailable."""
    found = find_consul(cache_dir)
    if found:
        return found
    package = _package_of_this_machine()
    if package is None:
        raise ConsulUnavailable(
            f"no Consul package is known for {platform.system()} {platform.machine()}: {INSTALL_HINT}"
        )
    return _install(package, cache_dir or default_cache_dir(), say)


def _install(package: PinnedPackage, cache_dir: Path, say: Say) -> Path:
    target = _cached_binary(cache_dir, package)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        deb = Path(scratch) / package.file_name
        _download(package, deb, say)
        try:
            unpack_deb(deb, Path(scratch) / "root")
        except (BadPackage, tarfile.TarError, OSError) as error:
            raise ConsulUnavailable(f"the Consul package could not be unpacked ({error}): {INSTALL_HINT}") from error
        os.replace(Path(scratch) / "root" / "usr" / "bin" / "consul", target)
    return target


def _download(package: PinnedPackage, target: Path, say: Say) -> None:
    failures = []
    for mirror in MIRRORS:
        say(f"fetching Consul from {mirror} (14 MB, once)")
        try:
            digest = _fetch(mirror + package.path, target)
        except (urllib.error.URLError, OSError) as error:
            failures.append(f"{mirror}: {getattr(error, 'reason', error)}")
            continue
        if digest == package.sha256:
            return
        failures.append(f"{mirror}: checksum {digest[:12]}... is not the pinned {package.sha256[:12]}...")
    raise ConsulUnavailable(f"Consul could not be fetched ({'; '.join(failures)}): {INSTALL_HINT}")


def _fetch(url: str, target: Path) -> str:
    """Writes the file and returns its SHA-256."""
    digest = hashlib.sha256()
    with urllib.request.urlopen(url, timeout=CONNECT_TIMEOUT_S) as reply, target.open("wb") as out:
        while chunk := reply.read(CHUNK_BYTES):
            digest.update(chunk)
            out.write(chunk)
    return digest.hexdigest()


def _package_of_this_machine() -> PinnedPackage | None:
    return PACKAGES.get(platform.machine()) if platform.system() == "Linux" else None


def _cached_binary(cache_dir: Path, package: PinnedPackage) -> Path:
    return cache_dir / "consul" / package.sha256[:16] / "consul"
