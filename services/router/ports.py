"""What the router needs of the other services. Each port has a gRPC adapter (`*_client.py`) and a fake in the tests.

Every method raises errors of `meshkit.errors` and keeps to the time it is given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from meshkit.coalescing import Piece
from meshkit.registry.base import Instance
from services.router.catalogue import Model
from services.router.events import Answer, Compression, FinishReason, Usage
from services.router.question import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to generate for all who ask the same, or the name of what is followed."""

    id: str
    holder: str = ""
    """The cache instance that gave it, which may be the only one that knows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which instances need not compute the beginning of the prompt, as the cache knows it."""

    marks: bytes
    """Names the prompt's breakpoints, for `note_prefix`."""
    resident_tokens: Mapping[str, int]
    """By instance; an estimate."""
    is_noted: bool
    """The cache knows the whole prompt already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptBlocks:
    """Which blocks of an engine's prefix cache a prompt is made of, its first ones at least."""

    hashes: Sequence[int]
    block_tokens: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the cache said: an answer, or a digest to commit one under; no digest: the answer must not be kept."""

    digest: bytes = b""
    answer: Answer | None = None
    lead: Lease | None = None
    """This request generates for all who ask the same."""
    follow: Lease | None = None
    """Another request generates this answer now."""
    is_stale: bool = False
    """The answer's time is over, and it may still be given."""
    regenerate: Lease | None = None
    """With a stale answer: this request makes it anew."""
    placement: Placement | None = None
    """Where this request generates: who holds the beginning of its prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """The followed answer is whole. Its pieces came before."""

    finish_reason: FinishReason
    usage: Usage
    cost_micro_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """The leader is gone, and this follower leads now."""

    lease: Lease


FollowEvent = Piece | Landed | Takeover


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """What to send to the engine instead of the question's own prompt."""

    payload: object
    """Opaque to the rules; the engine's adapter reads it."""
    summary: Compression


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStarted:
    """The engine took the request."""

    prompt_tokens: int
    revision: str
    blocks: PromptBlocks | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFinished:
    """The engine's own account of an answer."""

    finish_reason: FinishReason
    usage: Usage
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None


EngineEvent = EngineStarted | Piece | EngineFinished


class Cache(Protocol):
    """The response cache."""

    async def look_up(
        self, question: Question, model: Model, *, regenerates: bool = False, lost: Lease | None = None
    ) -> Found:
        """Raises a MeshError where the cache can't say. `regenerates`: a stale answer can be made anew here.

        `lost`: what was followed and is gone, so that nothing is told from memory that is known to be over.
        """
        ...

    async def commit(self, digest: bytes, answer: Answer, ttl_s: float | None, lease: Lease | None = None) -> None:
        """Keep a whole answer, for this long; None: as long as the cache likes. Ends the lease, if there is one."""
        ...

    async def renew(self, lease: Lease, first: int, pieces: Sequence[tuple[float, Piece]]) -> bool:
        """Tell followers these pieces, number `first` and on; whether anybody follows. Conflict: another leads."""
        ...

    async def abandon(self, lease: Lease) -> None:
        """Give the lease back; a follower leads then."""
        ...

    def follow(self, lease: Lease, first: int) -> AbstractAsyncContextManager[AsyncIterator[FollowEvent]]:
        """The answer that another request makes, from piece number `first` on. Ends with Landed or Takeover."""
        ...

    async def note_prefix(self, marks: bytes, blocks: PromptBlocks) -> None:
        """Tell every cache instance what the prompt of these marks is made of."""
        ...


class Compressor(Protocol):
    """The compressor."""

    async def compress(self, question: Question, model: Model) -> Compressed:
        """The prompt to send and what was done to it."""
        ...


class Engine(Protocol):
    """All instances that generate."""

    def generate(
        self,
        instance: Instance,
        question: Question,
        compressed: Compressed | None,
        request_id: str,
        timeout_s: float,
        *,
        wants_blocks: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[EngineEvent]]:
        """Start one attempt on one instance; leaving the block cancels it. `wants_blocks`: EngineStarted has them."""
        ...
