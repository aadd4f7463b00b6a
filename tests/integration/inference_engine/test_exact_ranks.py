"""Two ranks draw exactly what plain generation draws, in every family and on both paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from services.inference.engine.kernels.build import NoKernels, build
from tests.integration.inference_engine import arrivals, two_ranks
from tests.support.engine_process import CACHE_DIR
from tests.support.real import missing
from tests.support.tiny_model import Family, make_tiny_model

FAMILIES: list[Family] = ["qwen2", "qwen3", "llama", "mistral", "gemma3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def expected(folder: Path) -> dict[str, dict[int, list[int]]]:
    """By family; what plain generation draws."""
    drawn = {}
    for family in FAMILIES:
        model = AutoModelForCausalLM.from_pretrained(make_tiny_model(folder / family, family))
        drawn[family] = arrivals.plain_greedy(model, arrivals.fifty_requests())
    return drawn


@pytest.fixture(scope="module")
def drawn(folder: Path, expected: object) -> Iterator[dict[str, dict[int, list[int]]]]:
    """By "checkpoint path"; what two ranks draw."""
    try:
        kernels = build(CACHE_DIR)
    except NoKernels as reason:
        missing(f"kernels: {reason}")
    ranks = two_ranks.start([folder / family for family in FAMILIES], kernels, folder)
    try:
        yield ranks.drawn()
    finally:
        ranks.kill()


@pytest.mark.parametrize("path", ["stock", "lean"])
@pytest.mark.parametrize("family", FAMILIES)
def test_fifty_prompts_arriving_at_random_at_two_ranks_equal_plain_generate_token_for_token(
    folder: Path,
    expected: dict[str, dict[int, list[int]]],
    drawn: dict[str, dict[int, list[int]]],
    family: Family,
    path: str,
) -> None:
    assert drawn[f"{folder / family} {path}"] == expected[family]
