"""The prefix contract: what a turn became is what it stays, so that turn n + 1 extends turn n byte for byte.

An instance that served the last turn knows what its messages became. One that did not decides them anew, turn by turn
and each from nothing but itself, as it was decided then; since counts may differ by then, the prefix is not called
eligible for the cache. It is only where the messages that were there last time are byte-identical to what went out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from services.compressor.order import Order, Outcome, Settled
from services.compressor.pipeline import Pipeline
from services.compressor.prompt_text import Part, has_same_head
from services.compressor.sessions import Key, Sessions, still_valid
from services.compressor.thinning import query_of
from services.compressor.token_counter import TokenCounter


class Conversations:
    """A pipeline that remembers. `order` is about the whole prompt, nothing settled."""

    def __init__(self, pipeline: Pipeline, sessions: Sessions) -> None:
        self._pipeline = pipeline
        self._sessions = sessions

    async def compress(
        self, order: Order, counter: TokenCounter | None, key: Key | None, *, remembers: bool
    ) -> Outcome:
        """The outcome for the conversation; `remembers` False: as if this call had not been."""
        if key is None:
            return await self._pipeline.compress(order, counter)
        known = self._sessions.settled(key, order.parts)
        base = replace(order, keeps_answers=True, last_sent=self._sessions.last_sent(key))
        settled = await self._settled(base, known)
        outcome = await self._pipeline.compress(_rest(base, settled), counter)
        outcome = replace(outcome, is_prefix_kept=_is_prefix_kept(order, known, outcome.texts))
        if remembers:
            self._sessions.remember(key, order.parts, _became(order.parts, outcome, settled))
        return outcome

    def untouched(self, parts: Sequence[Part], key: Key, *, remembers: bool) -> bool:
        """Note that these texts go out as they are; whether they extend what went out last time."""
        known = self._sessions.settled(key, parts)
        if remembers:
            self._sessions.remember(key, parts, [Settled(original=part.text, sent=part.text) for part in parts])
        return bool(known) and all(one.sent == one.original for one in known or ())

    async def _settled(self, order: Order, known: Sequence[Settled] | None) -> tuple[Settled, ...]:
        """All messages before the live turn: as they went out, else decided anew from estimates."""
        kept = still_valid(known or (), protect=order.protect, frozen_bytes=order.frozen_bytes)
        settled = list(kept)
        for end in _ends_of_turns(order.parts, len(kept)):
            turn = _rest(order, settled, end=end)
            # No model is asked again for what an earlier instance had summed up.
            alone = replace(turn, settled=(), last_sent=(), is_abstractive=False)
            settled += _became(turn.parts, await self._pipeline.compress(alone, None), ())
        return tuple(settled)


def _ends_of_turns(parts: Sequence[Part], start: int) -> Iterator[int]:
    """Where earlier calls must have ended: before each answer of the assistant."""
    for index in range(start + 1, len(parts)):
        if parts[index].role == "assistant":
            yield index


def _rest(order: Order, settled: Sequence[Settled], end: int | None = None) -> Order:
    """The order for the messages after the settled ones."""
    start = len(settled)
    frozen_bytes = order.frozen_bytes
    if frozen_bytes:
        frozen_bytes = max(0, frozen_bytes - sum(len(one.original.encode("utf-8")) for one in settled))
    last_asked = next((part for part in reversed(order.parts[:start]) if part.role == "user"), None)
    return replace(
        order,
        parts=order.parts[start:end],
        settled=tuple(settled),
        frozen_bytes=frozen_bytes,
        earlier_query=query_of(replace(order, parts=(last_asked,))) if last_asked else "",
    )


def _became(parts: Sequence[Part], outcome: Outcome, settled: Sequence[Settled]) -> list[Settled]:
    """Each message with what it became; stages are noted with the messages of their own turn."""
    start = len(settled)
    is_kept = outcome.texts[:start] == tuple(one.sent for one in settled)
    found = list(settled) if is_kept else []
    for index in range(len(found), len(parts)):
        text = outcome.texts[index]
        is_changed = text != parts[index].text
        found.append(
            Settled(
                original=parts[index].text,
                sent=text,
                left_out=outcome.left_out[index],
                rewritten_by=outcome.rewritten_by if is_changed else frozenset(),
                is_summed_up=outcome.is_summed_up and bool(outcome.left_out[index]),
            )
        )
    return found


def _is_prefix_kept(order: Order, known: Sequence[Settled] | None, texts: Sequence[str]) -> bool:
    if not known or not has_same_head(order.original, texts, order.frozen_bytes):
        return False
    return all(one.sent == text for one, text in zip(known, texts, strict=False))
