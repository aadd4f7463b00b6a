"""What every tier of the cache must do, as one suite, and the fake tier that passes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from services.cache.entry import Entry, Unreadable, decode, encode
from services.cache.tier import Swept, TierSize, TierUnavailable

KEY = hashlib.sha256(b"one").digest()
OTHER_KEY = hashlib.sha256(b"other").digest()


def an_entry(payload: bytes = b"answer", *, wall: float, lives_s: float = 60.0, fresh_s: float | None = None) -> Entry:
    return Entry(
        payload=payload,
        stored_at=wall,
        fresh_until=wall + (lives_s if fresh_s is None else fresh_s),
        expires_at=wall + lives_s,
        epoch=0,
        revision="r1",
        tags=("a", "b"),
    )


class FakeStore:
    """Entries in a dict, encoded as a remote tier would; can be taken down and its bytes changed."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.is_down = False

    async def get(self, key: bytes) -> Entry | None:
        self._check()
        if key not in self.data:
            return None
        return decode(key, self.data[key])

    async def put(self, key: bytes, entry: Entry) -> None:
        self._check()
        self.data[key] = encode(key, entry)

    async def delete(self, key: bytes) -> None:
        self._check()
        self.data.pop(key, None)

    async def size(self) -> TierSize:
        self._check()
        return TierSize(entry_count=len(self.data), size_bytes=0, budget_bytes=0, eviction_count=0)

    async def sweep(self, prefix: bytes, matches: Callable[[bytes, Entry], bool], *, apply: bool) -> Swept:
        self._check()
        swept = []
        for key in [key for key in self.data if key.startswith(prefix)]:
            try:
                entry = decode(key, self.data[key])
            except Unreadable:
                entry = None
            if entry is not None and not matches(key, entry):
                continue
            swept += [entry.size_bytes] if entry is not None else []
            if apply:
                del self.data[key]
        return Swept(entry_count=len(swept), size_bytes=sum(swept))

    def _check(self) -> None:
        if self.is_down:
            raise TierUnavailable("down")


class StoreSuite:
    """Subclass with fixtures `store` and `wall` (a callable that gives Unix time)."""

    async def test_gives_back_what_was_put(self, store, wall):
        entry = an_entry(wall=wall())
        await store.put(KEY, entry)
        assert await store.get(KEY) == entry

    async def test_has_nothing_under_another_key(self, store, wall):
        await store.put(KEY, an_entry(wall=wall()))
        assert await store.get(OTHER_KEY) is None

    async def test_keeps_the_last_entry_of_a_key(self, store, wall):
        await store.put(KEY, an_entry(b"first", wall=wall()))
        await store.put(KEY, an_entry(b"second", wall=wall()))
        assert (await store.get(KEY)).payload == b"second"

    async def test_forgets_a_deleted_key_and_does_not_mind_a_missing_one(self, store, wall):
        await store.put(KEY, an_entry(wall=wall()))
        await store.delete(KEY)
        await store.delete(KEY)
        assert await store.get(KEY) is None

    async def test_tells_how_many_entries_it_holds(self, store, wall):
        await store.put(KEY, an_entry(wall=wall()))
        await store.put(OTHER_KEY, an_entry(wall=wall()))
        assert (await store.size()).entry_count == 2

    async def test_keeps_binary_payloads_whole(self, store, wall):
        payload = bytes(range(256)) * 1000
        await store.put(KEY, an_entry(payload, wall=wall()))
        assert (await store.get(KEY)).payload == payload

    async def test_a_sweep_counts_what_is_under_the_prefix_and_matches_and_forgets_it_only_when_told(self, store, wall):
        kept, swept = an_entry(b"kept", wall=wall()), an_entry(b"swept", wall=wall())
        prefix = b"*[t\\?]"
        await store.put(prefix + b"1", swept)
        await store.put(prefix + b"2", kept)
        await store.put(b"x[t\\?]1", swept)
        for apply in (False, True):
            found = await store.sweep(prefix, lambda _, entry: entry.payload == b"swept", apply=apply)
            assert found == Swept(entry_count=1, size_bytes=swept.size_bytes)
        assert await store.get(prefix + b"1") is None
        assert await store.get(prefix + b"2") == kept
        assert await store.get(b"x[t\\?]1") == swept

    async def test_a_sweep_of_everything_reaches_keys_of_every_length(self, store, wall):
        keys = [bytes(range(length)) for length in (1, 2, 32, 48, 64)]
        for key in keys:
            await store.put(key, an_entry(wall=wall()))
        seen = []
        await store.sweep(b"", lambda key, _: bool(seen.append(key)), apply=False)
        assert sorted(seen) == sorted(keys)
        assert (await store.sweep(b"", lambda *_: True, apply=True)).entry_count == len(keys)
        assert (await store.size()).entry_count == 0
