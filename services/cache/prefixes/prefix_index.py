"""Of which blocks the prompts were made that engines have read, by tenant and breakpoint, within a budget of bytes.

How many of a prompt's blocks lie before a breakpoint is estimated by length; behind the last one it is exact. Where
room is short, the tenant that holds most loses what it has not used for longest, so none can push out what another
holds, if that is less.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.cache.prefixes.breakpoints import Breakpoints

PROMPT_BYTES = 400
MARK_BYTES = 250
"""What a prompt and a mark occupy beside their hashes, measured on CPython 3.11, rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptBlocks:
    """What an engine said of a prompt: the hashes of its whole blocks, the first ones at least."""

    hashes: Sequence[int]
    block_tokens: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPrefix:
    """The longest beginning of a prompt that was noted."""

    hashes: Sequence[int]
    block_tokens: int
    is_whole: bool
    """It is all of the prompt."""


@dataclass(slots=True, eq=False)
class _Prompt:
    hashes: array[int]
    block_tokens: int
    digests: set[bytes] = field(default_factory=set)
    """The marks that lead here."""

    @property
    def size_bytes(self) -> int:
        return PROMPT_BYTES + self.hashes.itemsize * len(self.hashes) + MARK_BYTES * len(self.digests)


class _Shelf:
    """One tenant's prompts."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._marks: dict[bytes, tuple[_Prompt, int]] = {}
        self._prompts: OrderedDict[int, _Prompt] = OrderedDict()  # by identity, least recently used first

    def __len__(self) -> int:
        return len(self._prompts)

    def note(self, points: Breakpoints, blocks: PromptBlocks) -> None:
        prompt = _Prompt(array("Q", blocks.hashes), blocks.block_tokens)
        block_count = blocks.prompt_tokens // blocks.block_tokens
        for mark in points.marks:
            before_count = min(len(prompt.hashes), block_count * mark.length // points.length)
            if before_count:
                self._release(mark.digest)
                self._marks[mark.digest] = (prompt, before_count)
                prompt.digests.add(mark.digest)
        if prompt.digests:
            self._prompts[id(prompt)] = prompt
            self.size_bytes += prompt.size_bytes

    def longest(self, points: Breakpoints) -> KnownPrefix | None:
        for mark in reversed(points.marks):
            if (known := self._marks.get(mark.digest)) is not None:
                prompt, count = known
                self._prompts.move_to_end(id(prompt))
                is_whole = mark.length == points.length
                return KnownPrefix(hashes=prompt.hashes[:count], block_tokens=prompt.block_tokens, is_whole=is_whole)
        return None

    def drop_oldest(self) -> None:
        _, prompt = self._prompts.popitem(last=False)
        self.size_bytes -= prompt.size_bytes
        for digest in prompt.digests:
            del self._marks[digest]

    def _release(self, digest: bytes) -> None:
        """The mark leads to a newer prompt from now on; a prompt that no mark leads to is gone."""
        if (known := self._marks.get(digest)) is None:
            return
        prompt, _ = known
        if id(prompt) not in self._prompts:
            return
        prompt.digests.discard(digest)
        self.size_bytes -= MARK_BYTES
        if not prompt.digests:
            del self._prompts[id(prompt)]
            self.size_bytes -= prompt.size_bytes


class PrefixIndex:
    """Prompts by tenant, which is a partition's name."""

    def __init__(self, *, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._shelves: dict[bytes, _Shelf] = {}
        self.size_bytes = 0

    def note(self, tenant: bytes, points: Breakpoints, blocks: PromptBlocks) -> None:
        """An engine has read this prompt."""
        shelf = self._shelves.setdefault(tenant, _Shelf())
        self.size_bytes -= shelf.size_bytes
        shelf.note(points, blocks)
        self.size_bytes += shelf.size_bytes
        while self.size_bytes > self._budget_bytes:
            self._make_room()
        if not shelf:
            self._shelves.pop(tenant, None)

    def longest(self, tenant: bytes, points: Breakpoints) -> KnownPrefix | None:
        """The longest beginning of the prompt that this tenant's own prompts have in common with it."""
        shelf = self._shelves.get(tenant)
        return None if shelf is None else shelf.longest(points)

    def _make_room(self) -> None:
        tenant, shelf = max(self._shelves.items(), key=lambda item: item[1].size_bytes)
        self.size_bytes -= shelf.size_bytes
        shelf.drop_oldest()
        self.size_bytes += shelf.size_bytes
        if not shelf:
            del self._shelves[tenant]
