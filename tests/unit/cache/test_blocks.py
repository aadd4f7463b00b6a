"""Blocks: what was put comes back, memory that was let go of serves payloads of every size and can be given back."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.blocks import BLOCK_BYTES, COST_BYTES, Blocks


class Owners:
    """What is held, by owner."""

    def __init__(self) -> None:
        self.payloads: dict[int, bytes] = {}
        self.firsts: dict[int, int] = {}
        self.blocks = Blocks(self.firsts.__setitem__)

    def put(self, owner: int, payload: bytes) -> None:
        self.firsts[owner] = self.blocks.put(payload, owner)
        self.payloads[owner] = payload

    def let_go(self, owner: int) -> None:
        self.blocks.free(self.firsts.pop(owner))
        del self.payloads[owner]

    def are_whole(self) -> bool:
        return all(self.blocks.get(self.firsts[owner], len(kept)) == kept for owner, kept in self.payloads.items())


@given(st.lists(st.tuples(st.binary(max_size=5 * BLOCK_BYTES), st.sampled_from(["", "free", "shrink"])), max_size=60))
@settings(max_examples=100, deadline=None)
def test_every_payload_that_is_held_comes_back_whole(puts):
    owners = Owners()
    for number, (payload, then) in enumerate(puts):
        owners.put(number, payload * 20)
        if then == "free":
            owners.let_go(sorted(owners.payloads)[len(owners.payloads) // 2])
        if then == "shrink" and owners.blocks.can_shrink:
            owners.blocks.shrink()
        assert owners.are_whole()


def test_memory_follows_what_is_held_at_once_however_sizes_change():
    owners, chance = Owners(), random.Random(1)
    for number in range(3000):
        largest = 20_000 if number < 1500 else 300
        owners.put(number, chance.randbytes(chance.randint(1, largest)))
        if len(owners.payloads) > 50:
            owners.let_go(chance.choice(list(owners.payloads)))
    assert owners.blocks.occupied_bytes < 51 * (20_000 / BLOCK_BYTES + 2) * COST_BYTES
    while owners.blocks.can_shrink:
        owners.blocks.shrink()
    assert owners.blocks.occupied_bytes < (51 * 3 + 64) * COST_BYTES
    assert owners.are_whole()


def test_it_foretells_by_how_much_it_grows():
    owners, chance = Owners(), random.Random(1)
    for number in range(200):
        size_bytes = chance.randint(0, 100_000)
        expected = owners.blocks.occupied_bytes + owners.blocks.growth_bytes(size_bytes)
        owners.put(number, bytes(size_bytes))
        assert owners.blocks.occupied_bytes == expected
        if chance.random() < 0.5:
            owners.let_go(number)
