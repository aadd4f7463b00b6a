"""The pool of KV blocks: who holds which, and which free ones still carry keys and values worth finding again.

It knows nothing of tensors or tokens: content is named by a digest (see `prefix`). A block is held by any number of
sequences, or free. A reservation is a promise: that many free blocks may be taken later, and only taking evicts. Blocks
without content are taken first, then those with content in the order of their last use; what is pinned is taken only
for a reservation that could give pins up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

BLOCK_TOKENS = 16
_MOST_PINNED = 0.5  # share of the pool


def blocks_for(token_count: int) -> int:
    return -(-token_count // BLOCK_TOKENS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheChanges:
    """Digests that came to be stored, and ceased to be, since the last time somebody asked."""

    stored: list[bytes]
    evicted: list[bytes]


class BlockPool:
    """Block ids 0..block_count-1. `epoch` rises with every flush: content computed before one is never stored after."""

    def __init__(self, block_count: int) -> None:
        self.block_count = block_count
        self.epoch = 0
        self._holders = [0] * block_count
        self._blank = list(range(block_count - 1, -1, -1))  # free, without content
        self._cached: OrderedDict[int, None] = OrderedDict()  # free, with content, least recently used first
        self._pinned: OrderedDict[int, None] = OrderedDict()  # the same, pinned
        self._stored: dict[bytes, int] = {}
        self._digests: dict[int, bytes] = {}
        self._pins: dict[bytes, int] = {}  # how many prefixes want it kept
        self._promised = 0
        self._changes: dict[bytes, bool] = {}

    @property
    def free_count(self) -> int:
        """Blocks that are neither held nor promised nor pinned."""
        return max(0, self._spare())

    @property
    def used_count(self) -> int:
        return self.block_count - self.free_count

    @property
    def promised_count(self) -> int:
        return self._promised

    @property
    def kept_count(self) -> int:
        """Blocks that no sequence holds and a pin keeps."""
        return len(self._pinned)

    @property
    def stored_count(self) -> int:
        return len(self._stored)

    def holder_count(self, block_id: int) -> int:
        """How many sequences hold this block."""
        return self._holders[block_id]

    def could_ever_hold(self, token_count: int) -> bool:
        return blocks_for(token_count) <= self.block_count

    def find(self, digest: bytes) -> int | None:
        """The block with this content."""
        return self._stored.get(digest)

    def shortage(self, count: int, shared: Collection[int], *, gives_up_pins: bool = False) -> int:
        """How many blocks are missing to hold `shared` and `count` more."""
        free = self._spare() - sum(1 for block_id in shared if block_id in self._cached)
        if gives_up_pins:
            free += len(self._pinned) - sum(1 for block_id in shared if block_id in self._pinned)
        return max(0, count - free)

    def reserve(self, count: int, shared: Collection[int] = (), *, gives_up_pins: bool = False) -> bool:
        """Hold `shared` and promise `count` more blocks; False, and nothing done, if that many are not free."""
        if self.shortage(count, shared, gives_up_pins=gives_up_pins):
            return False
        self.hold(shared)
        self._promised += count
        return True

    def take(self, count: int) -> list[int]:
        """Hold this many of the promised blocks."""
        self.forgo(count)
        return [self._take() for _ in range(count)]

    def forgo(self, count: int) -> None:
        """This many of the promised blocks will not be taken."""
        if count > self._promised:
            raise ValueError(f"{count} blocks were not promised, {self._promised} were")
        self._promised -= count

    def hold(self, block_ids: Iterable[int]) -> None:
        """One more sequence holds each of these stored blocks."""
        for block_id in block_ids:
            if not self._holders[block_id]:
                del self._shelf(block_id)[block_id]
            self._holders[block_id] += 1

    def release(self, block_ids: list[int]) -> None:
        """One sequence fewer holds these. The last ones are forgotten first: a prefix is of use to more sequences."""
        for block_id in reversed(block_ids):
            if self._holders[block_id] < 1:
                raise ValueError(f"block {block_id} is free already")
            self._holders[block_id] -= 1
            if not self._holders[block_id]:
                self._shelve(block_id)

    def store(self, block_id: int, digest: bytes) -> None:
        """The keys and values in this held block are computed: it can be found. The first block of a content stays."""
        if digest not in self._stored:
            self._stored[digest] = block_id
            self._digests[block_id] = digest
            self._note(digest, is_stored=True)

    def pin(self, digest: bytes) -> bool:
        """Keep this content, now or once it is stored, until as many `unpin`s; False if half of the pool is pinned."""
        if digest not in self._pins and len(self._pins) >= int(self.block_count * _MOST_PINNED):
            return False
        self._pins[digest] = self._pins.get(digest, 0) + 1
        self._move(digest, self._cached, self._pinned)
        return True

    def unpin(self, digest: bytes) -> None:
        count = self._pins.pop(digest, 0) - 1
        if count > 0:
            self._pins[digest] = count
        else:
            self._move(digest, self._pinned, self._cached)

    def flush(self) -> int:
        """Forget all content; pins wait for it to be stored again. Gives how many blocks only the cache had kept."""
        shelved = [*self._cached, *self._pinned]
        self._blank.extend(shelved)
        self._cached.clear()
        self._pinned.clear()
        for digest in self._stored:
            self._note(digest, is_stored=False)
        self._stored.clear()
        self._digests.clear()
        self.epoch += 1
        return len(shelved)

    def take_changes(self) -> CacheChanges | None:
        """The net change since the last call, None if there was none."""
        if not self._changes:
            return None
        changes, self._changes = self._changes, {}
        return CacheChanges(
            stored=[digest for digest, is_stored in changes.items() if is_stored],
            evicted=[digest for digest, is_stored in changes.items() if not is_stored],
        )

    def _spare(self) -> int:
        """Below 0 where a reservation may give up pins."""
        return len(self._blank) + len(self._cached) - self._promised

    def _take(self) -> int:
        if self._blank:
            block_id = self._blank.pop()
        else:
            block_id, _ = (self._cached or self._pinned).popitem(last=False)
            digest = self._digests.pop(block_id)
            del self._stored[digest]
            self._note(digest, is_stored=False)
        self._holders[block_id] = 1
        return block_id

    def _shelve(self, block_id: int) -> None:
        if block_id in self._digests:
            self._shelf(block_id)[block_id] = None
        else:
            self._blank.append(block_id)

    def _shelf(self, block_id: int) -> OrderedDict[int, None]:
        return self._pinned if self._digests[block_id] in self._pins else self._cached

    def _move(self, digest: bytes, source: OrderedDict[int, None], target: OrderedDict[int, None]) -> None:
        block_id = self._stored.get(digest)
        if block_id is not None and block_id in source:
            del source[block_id]
            target[block_id] = None

    def _note(self, digest: bytes, *, is_stored: bool) -> None:
        """Being stored and evicted between two calls of `take_changes` cancel each other."""
        if self._changes.pop(digest, is_stored) is is_stored:
            self._changes[digest] = is_stored
