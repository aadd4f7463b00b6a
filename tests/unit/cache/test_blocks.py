"""Blocks: what was put comes back, and memory that was let go of serves payloads of every size."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.blocks import BLOCK_BYTES, COST_BYTES, Blocks


@given(st.lists(st.tuples(st.binary(max_size=5 * BLOCK_BYTES), st.booleans()), max_size=40))
@settings(max_examples=100, deadline=None)
def test_every_payload_that_is_held_comes_back_whole(puts):
    blocks, held = Blocks(), []
    for payload, is_let_go in puts:
        held.append((blocks.put(payload), payload))
        if is_let_go:
            blocks.free(held.pop(len(held) // 2)[0])
        assert all(blocks.get(first, len(kept)) == kept for first, kept in held)


def test_memory_follows_what_is_held_at_once_however_sizes_change():
    blocks, chance, held = Blocks(), random.Random(1), []
    for number in range(3000):
        largest = 20_000 if number < 1500 else 300
        held.append(blocks.put(bytes(chance.randint(1, largest))))
        if len(held) > 50:
            blocks.free(held.pop(chance.randrange(len(held))))
    assert blocks.occupied_bytes < 51 * (20_000 / BLOCK_BYTES + 2) * COST_BYTES


def test_it_foretells_by_how_much_it_grows():
    blocks, chance = Blocks(), random.Random(1)
    for _ in range(200):
        size_bytes = chance.randint(0, 100_000)
        expected = blocks.occupied_bytes + blocks.growth_bytes(size_bytes)
        first = blocks.put(bytes(size_bytes))
        assert blocks.occupied_bytes == expected
        if chance.random() < 0.5:
            blocks.free(first)
