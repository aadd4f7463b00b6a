"""Rules of how many tokens the KV cache holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from services.inference.engine import pool_size
from services.inference.engine.memory import RANK_BYTES, WeightBytes
from services.inference.engine.options import EngineOptions
from services.inference.engine.pool_size import PoolSize, Space, fitting_tokens, require_room, size_pool
from services.inference.models.errors import ModelError
from tests.support.tiny_model import CONTEXT_TOKENS, make_tiny_model

GIB = 2**30
TOKEN_BYTES = 2 * 4 * 2 * 16 * 4
"""Of the tiny model: keys and values, layers, heads, numbers, bytes."""

SPACE = Space(available=10_000, weights=WeightBytes(starting=3000, serving=2000), others=1000, token_bytes=2)


def test_the_cache_gets_whole_blocks_of_what_its_share_holds() -> None:
    assert fitting_tokens(SPACE, 1000, least=16, most=10_000) == 496


def test_the_cache_never_gets_more_than_all_sequences_could_use() -> None:
    assert fitting_tokens(SPACE, 7000, least=16, most=100) == 112


def test_a_share_that_can_not_hold_one_context_is_refused_and_says_what_to_change() -> None:
    with pytest.raises(ModelError, match="holds 496 tokens; a sequence may need 512") as refusal:
        fitting_tokens(SPACE, 1000, least=512, most=10_000)
    assert all(name in refusal.value.advice for name in ("engine.context_tokens", "engine.memory_share"))


def test_a_share_of_nothing_is_refused_without_negative_numbers() -> None:
    with pytest.raises(ModelError, match=r"0\.0 GiB .* holds 0 tokens"):
        fitting_tokens(SPACE, -500, least=16, most=64)


@pytest.mark.parametrize("kv_tokens", [0, 3500])
def test_what_fits_to_the_last_byte_is_let_in(kv_tokens: int) -> None:
    require_room(SPACE, kv_tokens)


def test_a_cache_that_exceeds_what_the_weights_leave_is_refused_by_its_own_name() -> None:
    with pytest.raises(ModelError, match="KV cache") as refusal:
        require_room(SPACE, 3501)
    assert "engine.kv_tokens" in refusal.value.advice


def test_a_model_that_only_starting_makes_too_large_is_refused_whatever_the_cache() -> None:
    with pytest.raises(ModelError, match="while it starts") as refusal:
        fitting_tokens(replace(SPACE, weights=WeightBytes(starting=9001, serving=2000)), 1000, least=16, most=64)
    assert "engine.dtype" in refusal.value.advice


def options(model_dir: Path, **changes: Any) -> EngineOptions:
    return EngineOptions(fd=0, model_dir=model_dir, max_sequences=100_000, **changes)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def test_a_processor_s_share_is_of_what_the_model_leaves_of_the_available_memory(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_size, "available_bytes", lambda: 4 * GIB)
    half = size_pool(options(checkpoint, memory_share=0.5))
    quarter = size_pool(options(checkpoint))
    left = 2 * half.kv_tokens * TOKEN_BYTES
    assert 4 * GIB - left > RANK_BYTES
    assert left > 3 * GIB
    assert quarter.kv_tokens == pytest.approx(half.kv_tokens / 2, abs=16)
    assert half.context_tokens == quarter.context_tokens == CONTEXT_TOKENS


def test_a_device_s_share_holds_weights_cache_and_what_others_use(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    for free in (4 * GIB, 3 * GIB):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, 4 * GIB))
        taken.append(size_pool(options(checkpoint, device="cuda")).kv_tokens * TOKEN_BYTES)
    assert taken[0] < 0.9 * 4 * GIB - RANK_BYTES
    assert taken[0] - taken[1] == pytest.approx(GIB, abs=16 * TOKEN_BYTES)


def test_a_stated_size_is_taken_as_it_is_and_bounds_the_context(checkpoint: Path) -> None:
    assert size_pool(options(checkpoint, kv_tokens=256)) == PoolSize(kv_tokens=256, context_tokens=256)
    assert size_pool(options(checkpoint, kv_tokens=4096, context_tokens=1024)).context_tokens == 1024
