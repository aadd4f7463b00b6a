"""From the engine's stream to the caller's: pieces joined where they come close together, the first at once.

`pump` runs as a task and reads the engine as fast as it sends; `events` gives the caller what is due. Between them is
an Outbox, bounded by the answer's own length, so a slow caller never slows the engine's batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, replace

from meshkit.clock import Clock
from meshkit.coalescing import Coalescer, Outbox, Piece
from meshkit.errors import BackendDown
from services.router.events import Accepted, Answer, Compression, Finished, FinishReason, Migrated, Timings, Usage
from services.router.ports import EngineEvent, EngineFinished, EngineStarted, PromptBlocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Who took the request."""

    instance_id: str = ""
    revision: str = ""
    blocks: PromptBlocks | None = None


class Relay:
    """Relays one answer and remembers it, for the bill and the cache."""

    def __init__(
        self, source: AsyncGenerator[tuple[str, EngineEvent], None], *, clock: Clock, flush_interval_s: float
    ) -> None:
        self._source = source
        self._clock = clock
        self._outbox = Outbox(Coalescer(interval_s=flush_interval_s), clock)
        self._taken: asyncio.Future[Taken] = asyncio.get_running_loop().create_future()
        self._holder = ""
        self._notices: list[Migrated] = []
        self._sent: list[tuple[float, Piece]] = []
        self._prompt_tokens = 0
        self._engine_finished: EngineFinished | None = None
        self._was_cancelled = False

    async def pump(self) -> None:
        """Read the engine to its end. Being cancelled ends the answer; every failure reaches the reader of `events`."""
        try:
            async for instance_id, event in self._source:
                self._take(instance_id, event)
            if self._engine_finished is None:
                raise BackendDown(f"{self._holder} ended the stream without finishing the answer")
            self._outbox.end()
        except asyncio.CancelledError:
            self._was_cancelled = True
            self._settle(Taken())
            self._outbox.end()
        except Exception as failure:
            self._fail(failure)
        finally:
            await self._source.aclose()

    async def taken(self) -> Taken:
        """Return when an engine has taken the request; raise what prevented it."""
        return await self._taken

    async def events(self) -> AsyncIterator[Migrated | Piece]:
        """Pieces and notices as they become due; raises the engine's failure behind the last piece."""
        async for pieces in self._outbox.batches():
            while self._notices:
                yield self._notices.pop(0)
            for piece in pieces:
                self._sent.append((self._clock.now(), piece))
                yield piece

    @property
    def finish_reason(self) -> FinishReason:
        if self._was_cancelled or self._engine_finished is None:
            return FinishReason.CANCELLED
        return self._engine_finished.finish_reason

    def usage(self, compression: Compression | None) -> Usage:
        """Tokens as the engine counted them; of a cancelled answer, what was relayed."""
        compressed_from = compression.original_tokens if compression and compression.saved_tokens > 0 else 0
        if self._engine_finished is not None:
            return replace(self._engine_finished.usage, compressed_from_tokens=compressed_from)
        return Usage(
            prompt_tokens=self._prompt_tokens,
            compressed_from_tokens=compressed_from,
            completion_tokens=sum(piece.token_count for _, piece in self._sent),
        )

    def fill(self, timings: Timings) -> None:
        """Add the stages behind the router."""
        if self._engine_finished is not None:
            timings.engine_queue_s = self._engine_finished.queue_s
            timings.prefill_s = self._engine_finished.prefill_s
        if self._sent:
            timings.decode_s = self._sent[-1][0] - self._sent[0][0]

    def answer(self, finished: Finished, accepted: Accepted) -> Answer:
        """The whole answer, for the cache."""
        first_at = self._sent[0][0] if self._sent else 0.0
        return Answer(
            pieces=tuple((at - first_at, piece) for at, piece in self._sent),
            finish_reason=finished.finish_reason,
            usage=finished.usage,
            cost_micro_usd=finished.cost.total,
            model=accepted.model,
            revision=accepted.revision,
            tier=accepted.tier,
        )

    def _take(self, instance_id: str, event: EngineEvent) -> None:
        if isinstance(event, Piece):
            self._outbox.put(event)
        elif isinstance(event, EngineStarted):
            self._prompt_tokens = event.prompt_tokens
            if self._holder:
                self._notices.append(
                    Migrated(
                        from_instance=self._holder, to_instance=instance_id, reason="failed before its first token"
                    )
                )
            self._holder = instance_id
            self._settle(Taken(instance_id=instance_id, revision=event.revision, blocks=event.blocks))
        else:
            self._engine_finished = event

    def _settle(self, taken: Taken) -> None:
        if not self._taken.done():
            self._taken.set_result(taken)

    def _fail(self, failure: Exception) -> None:
        if self._taken.done():
            self._outbox.fail(failure)
        else:
            self._taken.set_exception(failure)
            self._outbox.end()
