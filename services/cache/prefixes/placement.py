"""Tells a router which engines hold the beginning of a prompt, and learns from it what prompts are made of.

A tenant's hints come from its own prompts alone. Block hashes are salted with the tenant by the engines, so what
another tenant's prompts left there never matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshkit.errors import InvalidRequest
from services.cache.prefixes.breakpoints import Breakpoints, breakpoints
from services.cache.prefixes.prefix_index import KnownPrefix, PrefixIndex, PromptBlocks
from services.cache.prefixes.resident import ResidentBlocks
from services.cache.request_key import partition

MOST_BLOCKS = 512
MOST_HOLDERS = 8
_MOST_BLOCK_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """An instance that need not compute so many of the prompt's first tokens."""

    instance_id: str
    resident_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Where the longest known beginning of a prompt lies."""

    marks: bytes
    """For `note`; a caller's to keep, and opaque to it."""
    holders: tuple[Holder, ...] = ()
    """Most tokens first."""
    is_noted: bool = False
    """The whole prompt is known."""


class Placement:
    """Hints for one tenant at a time."""

    def __init__(self, index: PrefixIndex, resident: ResidentBlocks) -> None:
        self._index = index
        self._resident = resident

    def hint(self, tenant: str, request: Mapping[str, Any]) -> Hint:
        """For a request as plain data, see `request_key`."""
        points = breakpoints(request)
        known = self._index.longest(partition(tenant), points)
        if known is None:
            return Hint(marks=bytes(points))
        return Hint(marks=bytes(points), holders=self._holders(known, request), is_noted=known.is_whole)

    def note(self, tenant: str, marks: bytes, blocks: PromptBlocks) -> None:
        """An engine has read the prompt of these marks. Raises InvalidRequest."""
        points = Breakpoints.parse(marks)
        if not 0 < len(blocks.hashes) <= MOST_BLOCKS:
            problem = f"{len(blocks.hashes)} is out of range"
            raise InvalidRequest(problem, field="block_hashes", limit=f"1..{MOST_BLOCKS}")
        if not 0 < blocks.block_tokens <= _MOST_BLOCK_TOKENS:
            problem = f"{blocks.block_tokens} is out of range"
            raise InvalidRequest(problem, field="block_tokens", limit=f"1..{_MOST_BLOCK_TOKENS}")
        if blocks.prompt_tokens < len(blocks.hashes) * blocks.block_tokens:
            problem = f"{blocks.prompt_tokens} is fewer than the blocks hold"
            raise InvalidRequest(problem, field="prompt_tokens", limit="at least block_tokens x block_hashes")
        self._index.note(partition(tenant), points, blocks)

    def _holders(self, known: KnownPrefix, request: Mapping[str, Any]) -> tuple[Holder, ...]:
        revisions = str(request.get("revision", "")).split(",")
        runs = self._resident.runs(known.hashes, model=request.get("model", ""), revisions=revisions)
        most_first = sorted(runs.items(), key=lambda run: -run[1])[:MOST_HOLDERS]
        return tuple(
            Holder(instance_id=instance_id, resident_tokens=count * known.block_tokens)
            for instance_id, count in most_first
        )
