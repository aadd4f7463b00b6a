"""Rules of pins on their way to an engine that may die, and of how many there may be."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from meshkit.errors import BackendDown, Overloaded
from services.inference.engine.messages import PinPrefix, PrefixPinned, ToEngine
from services.inference.pinned_prefixes import MOST_PREFIXES, PinnedPrefixes, Prefix
from services.inference.pins import Pins

CACHE_TOKENS = 4096


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(10):
        yield


def prefix(first: int = 0) -> Prefix:
    return Prefix(cache_salt="ada", token_ids=tuple(range(first, first + 16)))


def answering(pins: Pins, told: list[PinPrefix], *, has_room: bool = True) -> Callable[[ToEngine], None]:
    """An engine that answers at once."""

    def send(message: ToEngine) -> None:
        assert isinstance(message, PinPrefix)
        told.append(message)
        pins.answer(PrefixPinned(pin_id=message.pin_id, has_room=has_room))

    return send


def contents(messages: list[PinPrefix]) -> list[tuple[tuple[int, ...], bool]]:
    return [(tuple(message.token_ids), message.is_pinned) for message in messages]


async def test_the_same_prefix_is_sent_once_and_what_was_never_kept_is_not_let_go() -> None:
    pins, told = Pins(), list[PinPrefix]()
    for _ in range(2):
        await pins.pin(prefix(), answering(pins, told), cache_tokens=CACHE_TOKENS)
    await pins.unpin(prefix(1), answering(pins, told))
    for _ in range(2):
        await pins.unpin(prefix(), answering(pins, told))
    assert contents(told) == [(prefix().token_ids, True), (prefix().token_ids, False)]


async def test_every_life_of_the_engine_is_told_what_is_kept() -> None:
    pins, told = Pins(), list[PinPrefix]()
    await pins.pin(prefix(), answering(pins, []), cache_tokens=CACHE_TOKENS)
    await pins.pin(prefix(1), answering(pins, []), cache_tokens=CACHE_TOKENS)
    await pins.unpin(prefix(), answering(pins, []))
    for _ in range(2):
        pins.fail_all("the engine stopped")
        pins.resume(answering(pins, told))
    assert contents(told) == [(prefix(1).token_ids, True)] * 2


async def test_engine_that_dies_over_a_pin_fails_it_and_its_next_life_is_told() -> None:
    pins, told = Pins(), list[PinPrefix]()
    pinning = asyncio.create_task(pins.pin(prefix(), lambda _: None, cache_tokens=CACHE_TOKENS))
    await asyncio.sleep(0)
    pins.fail_all("the engine stopped")
    with pytest.raises(BackendDown):
        await pinning
    pins.resume(answering(pins, told))
    assert contents(told) == [(prefix().token_ids, True)]


@pytest.mark.parametrize("is_repeated", [False, True], ids=["asked for", "told again"])
async def test_prefix_that_the_engine_has_no_room_for_is_not_kept(is_repeated: bool) -> None:
    pins, told = Pins(), list[PinPrefix]()
    if is_repeated:
        await pins.pin(prefix(), answering(pins, []), cache_tokens=CACHE_TOKENS)
        pins.resume(answering(pins, [], has_room=False))
    else:
        with pytest.raises(Overloaded):
            await pins.pin(prefix(), answering(pins, [], has_room=False), cache_tokens=CACHE_TOKENS)
    await pins.pin(prefix(), answering(pins, told), cache_tokens=CACHE_TOKENS)
    assert contents(told) == [(prefix().token_ids, True)]


def test_there_are_never_more_than_so_many_prefixes() -> None:
    prefixes = PinnedPrefixes()
    for first in range(MOST_PREFIXES):
        prefixes.add(prefix(first), cache_tokens=10**6)
    with pytest.raises(Overloaded, match="256 prefixes"):
        prefixes.add(prefix(MOST_PREFIXES), cache_tokens=10**6)
