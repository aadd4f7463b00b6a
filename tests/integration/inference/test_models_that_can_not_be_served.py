"""What an operator sees of a model that can't be served: the process ends with one sentence that says what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.support.tiny_model import make_tiny_model

ROOT = Path(__file__).resolve().parents[3]
SERVICE_FAILED = 4
PATIENCE_S = 180.0


def truncate(directory: Path) -> None:
    weights = directory / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1000)


def pickled(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")


def nothing(directory: Path) -> None:
    pass


CASES: list[tuple[Callable[[Path], None], Mapping[str, str], str, str]] = [
    (truncate, {}, "model.safetensors is truncated", "Fetch or copy the model again."),
    (pickled, {}, "has pickled weights only", "Convert the model to safetensors"),
    (nothing, {"ENGINE__KV_TOKENS": str(10**12)}, "KV cache)", "Lower engine.kv_tokens"),
    (nothing, {"ENGINE__MEMORY_SHARE": "1e-9"}, "holds 0 tokens", "raise engine.memory_share"),
]


@pytest.mark.parametrize(("damage", "changes", "problem", "advice"), CASES, ids=[row[2] for row in CASES])
def test_model_that_can_not_be_served_ends_the_process_with_problem_and_advice(
    tmp_path: Path, damage: Callable[[Path], None], changes: Mapping[str, str], problem: str, advice: str
) -> None:
    damage(make_tiny_model(tmp_path / "model"))
    settings = {
        "MODEL__SOURCE": str(tmp_path / "model"),
        "MODEL__CACHE_DIR": str(tmp_path / "cache"),
        "SERVER__PORT": "0",
        "REGISTRY__KIND": "none",
        "ENGINE__DEVICE": "cpu",
        **changes,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "services.inference"],
        env={**os.environ, **{f"MESH_INFERENCE_{name}": value for name, value in settings.items()}},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    said = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert ended.returncode == SERVICE_FAILED and len(said) == 1
    assert problem in said[0] and advice in said[0]
    assert "Traceback" not in ended.stderr
