"""Bounded memory and handles: what is kept, for whom, for how long."""

import pytest

from meshkit.errors import NotFound
from meshkit.testing.clock import FakeClock
from services.compressor.bounded import BoundedStore
from services.compressor.expansions import Expansions


def expansions(clock=None, max_bytes=100_000, secret=b"s" * 32) -> Expansions:
    return Expansions(BoundedStore(max_bytes=max_bytes, ttl_s=60.0, clock=clock or FakeClock()), secret)


def kept(store: Expansions, tenant: str, text: str) -> str:
    handle = store.handle_of(tenant, text)
    store.keep(tenant, {handle: text})
    return handle


def test_a_handle_gives_its_text_back():
    store = expansions()
    assert store.expand("a", kept(store, "a", "left out")) == "left out"


async def test_foreign_unknown_expired_and_evicted_handles_are_refused_in_the_same_words():
    clock = FakeClock()
    store = expansions(clock, max_bytes=1_000)
    foreign, expired = kept(store, "b", "of b"), kept(store, "a", "too old")
    await clock.advance(61)
    evicted = kept(store, "a", "pushed out")
    kept(store, "a", "x" * 400)
    said = set()
    for handle in (foreign, expired, evicted, "never", store.handle_of("a", "not kept")):
        with pytest.raises(NotFound) as refused:
            store.expand("a", handle)
        said.add(refused.value.message)
    assert len(said) == 1


def test_handles_differ_by_tenant_text_and_secret_and_are_long_enough_not_to_be_guessed():
    one = expansions().handle_of("a", "text")
    others = [
        expansions().handle_of("b", "text"),
        expansions().handle_of("a", "other"),
        expansions(secret=b"t" * 32).handle_of("a", "text"),
    ]
    assert len({one, *others}) == 4
    assert len(one) == 16  # of 64 letters: 96 bits
    assert one == expansions().handle_of("a", "text")


def test_a_full_store_forgets_what_was_not_used_for_longest():
    store = BoundedStore(max_bytes=30, ttl_s=60.0, clock=FakeClock())
    for key in "abc":
        store.put(key, key, 10)
    assert store.get("a") == "a"
    store.put("d", "d", 10)
    assert (store.get("b"), store.get("a"), store.size_bytes, len(store)) == (None, "a", 30, 3)


def test_a_value_larger_than_the_store_is_not_kept_and_replaces_what_was_there():
    store = BoundedStore(max_bytes=30, ttl_s=60.0, clock=FakeClock())
    store.put("a", "old", 10)
    store.put("a", "new", 31)
    assert store.get("a") is None
    assert store.size_bytes == 0


async def test_use_keeps_a_value_alive_and_a_look_does_not():
    clock = FakeClock()
    store = BoundedStore(max_bytes=100, ttl_s=60.0, clock=clock)
    store.put("used", 1, 1)
    store.put("seen", 1, 1)
    await clock.advance(40)
    assert store.get("used") == store.peek("seen") == 1
    await clock.advance(40)
    assert (store.get("used"), store.peek("seen")) == (1, None)
    assert store.size_bytes == 1
