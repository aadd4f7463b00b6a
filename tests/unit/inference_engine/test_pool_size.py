"""Rules of how many tokens the KV cache holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.inference.engine.memory import WeightBytes
from services.inference.engine.pool_size import Space, fitting_tokens, require_room
from services.inference.models.errors import ModelError

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
