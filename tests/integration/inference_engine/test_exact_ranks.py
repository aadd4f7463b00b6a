"""Two ranks draw exactly what plain generation draws, in every family and on both paths."""

from __future__ import annotations

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
    """A checkpoint of each family."""
    folder = tmp_path_factory.mktemp("families")
    for family in FAMILIES:
        make_tiny_model(folder / family, family)
    return folder


@pytest.fixture(scope="module")
def drawn(folder: Path) -> two_ranks.Drawn:
    try:
        build(CACHE_DIR)
    except NoKernels as reason:
        missing(f"kernels: {reason}")
    return two_ranks.draw(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_fifty_prompts_arriving_at_random_at_two_ranks_equal_plain_generate_token_for_token(
    folder: Path, drawn: two_ranks.Drawn, family: Family
) -> None:
    reference = AutoModelForCausalLM.from_pretrained(folder / family, attn_implementation="eager")
    expected = arrivals.plain_greedy(reference, arrivals.fifty_requests())
    for path in ("stock", "lean"):
        assert drawn[f"{family} {path}"] == expected
