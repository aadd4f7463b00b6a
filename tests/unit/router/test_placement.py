"""A request goes where the cache says that the beginning of its prompt lies, and its blocks are noted for the next."""

from __future__ import annotations

import pytest

from meshkit.errors import BackendDown
from services.router.events import Accepted
from services.router.ports import EngineEvent, EngineStarted, Placement, PromptBlocks
from tests.unit.router.fakes import Bench, FakeCache, FakeEngine, words

BLOCKS = PromptBlocks(hashes=(1, 2), block_tokens=16, prompt_tokens=40)


def told(*texts: str) -> list[EngineEvent]:
    """A whole stream of an engine that says what the prompt is made of."""
    return [EngineStarted(prompt_tokens=40, revision="r1", blocks=BLOCKS), *words(*texts)[1:]]


def placed(*, is_noted: bool = False, **resident_tokens: int) -> FakeCache:
    return FakeCache(placement=Placement(marks=b"marks", resident_tokens=resident_tokens, is_noted=is_noted))


async def test_a_request_goes_to_who_holds_its_prefix() -> None:
    bench = Bench(FakeEngine([told("x")]), cache=placed(b=512))
    for number in range(20):
        await bench.ask(payload=f"question {number}")
    assert set(bench.engine.asked) == {"b"}


async def test_a_retry_goes_elsewhere_all_the_same() -> None:
    bench = Bench(FakeEngine([[BackendDown("gone")], told("x")]), cache=placed(b=512))
    events = await bench.ask()
    assert bench.engine.asked == ["b", "a"]
    assert isinstance(events[0], Accepted) and events[0].instance == "a"


async def test_what_a_prompt_is_made_of_is_asked_for_and_noted() -> None:
    bench = Bench(FakeEngine([told("x")]), cache=placed())
    await bench.ask()
    await bench.commits.drain()
    assert bench.engine.blocks_wanted == [True]
    assert bench.cache.noted == [(b"marks", BLOCKS)]


@pytest.mark.parametrize("cache", [FakeCache(), placed(is_noted=True)], ids=["no hints", "noted already"])
async def test_what_nobody_needs_to_know_is_not_asked_for(cache: FakeCache) -> None:
    bench = Bench(FakeEngine([words("x")]), cache=cache)
    await bench.ask()
    await bench.commits.drain()
    assert bench.engine.blocks_wanted == [False] and cache.noted == []
