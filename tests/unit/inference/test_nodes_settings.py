"""Rules of one model over several hosts: what is refused before anything starts, and what each host's ranks hear."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from meshkit.settings_loader import SettingsError, load
from services.inference.engine.options import as_arguments, parse
from services.inference.launch import engine_options
from services.inference.settings import InferenceSettings

ROOT = Path(__file__).parents[3]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text("0123456789abcdef" * 2 + "\n")
    return file


def loaded(**environ: str) -> InferenceSettings:
    variables = {"MESH_INFERENCE_MODEL__SOURCE": "x"} | {f"MESH_INFERENCE_{k}": v for k, v in environ.items()}
    return load(InferenceSettings, env_prefix="MESH_INFERENCE_", path=None, environ=variables).value


def test_one_host_needs_no_setting_at_all() -> None:
    assert loaded().nodes.count == 1


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({"NODES__COUNT": "0"}, r"nodes\.count must be over 0"),
        ({"NODES__RANK": "1"}, r"nodes\.rank must be in 0\.\.0, since nodes\.count says so"),
        ({"NODES__RANK": "-1"}, r"nodes\.rank"),
        ({"NODES__RENDEZVOUS": "infer-0"}, r"nodes\.rendezvous is no address: 'infer-0' is not HOST:PORT"),
        ({"NODES__SILENCE_S": "1"}, r"nodes\.silence_s must be in \[1\.5, 4\]"),
        ({"NODES__SILENCE_S": "5"}, r"nodes\.silence_s"),
        ({"NODES__COUNT": "2", "NODES__SECRET_FILE": ""}, r"nodes\.secret_file must be set .* openssl rand"),
        ({"NODES__COUNT": "2", "NODES__SECRET_FILE": "/none"}, r"nodes\.secret_file is unusable: /none can't be read"),
        ({"NODES__COUNT": "2", "NODES__JOIN_TIMEOUT_S": "600"}, r"nodes\.join_timeout_s must be under watchdog"),
        ({"NODES__COUNT": "2", "ENGINE__TENSOR_PARALLEL_SIZE": "3"}, r"3 can't be shared evenly by 2"),
        ({"NODES__COUNT": "2", "ENGINE__KIND": "echo"}, r"nodes\.count must be 1 for engine\.kind echo"),
    ],
)
def test_impossible_settings_are_named(environ: dict[str, str], word: str, secret: Path) -> None:
    with pytest.raises(SettingsError, match=word):
        loaded(**{"NODES__SECRET_FILE": str(secret), **environ})


def test_short_secret_is_refused_with_a_way_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("password\n")
    with pytest.raises(SettingsError, match="holds 8 characters, 32 are the least; openssl rand -hex 32"):
        loaded(NODES__COUNT="2", NODES__SECRET_FILE=str(tmp_path / "short"))


def test_node_0_listens_where_the_others_reach_it_unless_told_otherwise(secret: Path) -> None:
    both = {"NODES__COUNT": "2", "NODES__SECRET_FILE": str(secret)}
    assert str(loaded(**both).nodes.listen_address) == "127.0.0.1:50071"
    behind = loaded(**both, NODES__RENDEZVOUS="infer-0.infer:7000", NODES__LISTEN_HOST="0.0.0.0").nodes
    assert (str(behind.address), str(behind.listen_address)) == ("infer-0.infer:7000", "0.0.0.0:7000")


@pytest.mark.parametrize(("size", "total", "local"), [("0", 3, 1), ("6", 6, 2)])
def test_ranks_are_shared_evenly_and_numbered_through(
    size: str, total: int, local: int, secret: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"num_attention_heads": 12}')
    settings = loaded(
        NODES__COUNT="3",
        NODES__RANK="2",
        NODES__SECRET_FILE=str(secret),
        ENGINE__TENSOR_PARALLEL_SIZE=size,
        ENGINE__DEVICE="cpu",
    )
    options = engine_options(settings.engine, tmp_path, tmp_path, fd=7, nodes=settings.nodes, revision="r")
    options = parse(as_arguments(options))
    assert (options.tensor_parallel_size, options.local_size, options.nodes, options.node_rank) == (total, local, 3, 2)
    assert (options.revision, options.secret_file) == ("r", secret)
    numbers = [parse([*as_arguments(options), "--rank", str(rank)]).local_rank for rank in range(total)]
    assert numbers == list(range(local)) * 3


def test_settings_in_the_documentation_are_right(secret: Path, tmp_path: Path) -> None:
    document = (ROOT / "docs" / "operating.md").read_text()
    text = next(part for part in document.split("```toml\n")[1:] if "[nodes]" in part).partition("```")[0]
    file = tmp_path / "inference.toml"
    file.write_text(text.replace("/etc/mesh/nodes-secret", str(secret)))
    for rank in ("0", "1"):
        environ = {"MESH_INFERENCE_NODES__RANK": rank}
        nodes = load(InferenceSettings, env_prefix="MESH_INFERENCE_", path=file, environ=environ).value.nodes
        assert (nodes.count, nodes.rank, str(nodes.address)) == (2, int(rank), "10.0.0.1:50071")


def test_help_and_check_teach_several_hosts() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "services.inference", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "nodes.secret_file" in shown and "MESH_INFERENCE_NODES__RANK" in shown
    checked = subprocess.run(
        [sys.executable, "-m", "services.inference", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"MESH_INFERENCE_MODEL__SOURCE": "x", "MESH_INFERENCE_NODES__COUNT": "2"},
    )
    assert checked.returncode == 2 and "nodes.secret_file must be set" in checked.stderr
