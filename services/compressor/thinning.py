"""The selective stage: asks the selector which pieces are worth sending, and writes markers for the rest.

What may never go is added to what the selector is told to keep, and checked again in its answer. An answer that keeps
nothing is no selection: with nothing to read, a reader can only guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.compressor.live import live
from services.compressor.omission import Thinned, kept_and_left, thinned
from services.compressor.order import Order
from services.compressor.prompt_text import TOOL_SCHEMA, frozen_chars
from services.compressor.selection.port import Selector, Task
from services.compressor.shield import Shield, shield
from services.compressor.spans import Range, Spans
from services.compressor.token_counter import estimated_tokens


def thin(selector: Selector, order: Order, texts: Sequence[str], budget_tokens: int) -> list[Thinned]:
    """The open texts with pieces left out, near the budget of estimated tokens where what is protected allows."""
    parts = tuple(replace(part, text=text) for part, text in zip(order.parts, texts, strict=True))
    found = live(parts, keeps_answers=order.keeps_answers)
    frozen = frozen_chars(texts, order.frozen_bytes)
    shields = tuple(
        _pinned(shield(part.text, protect=order.protect, frozen_chars=count), ranges)
        for part, count, ranges in zip(parts, frozen, found.pinned, strict=True)
    )
    task = Task(
        parts=parts,
        shields=shields,
        query=found.query or order.earlier_query,
        budget_tokens=budget_tokens,
        count=_count,
        can_expand=order.handle_of is not None,
    )
    chosen = selector.select(task).parts
    runs = [kept_and_left(part.text, pieces, own) for part, pieces, own in zip(parts, chosen, shields, strict=True)]
    if not _keeps_something(runs, found.pinned):
        return [Thinned(text=text) for text in texts]
    return [
        _whole_or_nothing(part.text, one) if part.role == TOOL_SCHEMA else thinned(one, order.handle_of)
        for part, one in zip(parts, runs, strict=True)
    ]


def query_of(order: Order) -> str:
    """The live instruction of the whole prompt."""
    return live(order.parts, keeps_answers=order.keeps_answers).query or order.earlier_query


def _whole_or_nothing(schema: str, runs: Sequence[tuple[str, bool]]) -> Thinned:
    """A list of tools has no place for a marker."""
    if not schema or any(is_kept for _, is_kept in runs):
        return Thinned(text=schema)
    return Thinned(text="", left_out=(schema,))


def _pinned(own: Shield, ranges: Sequence[Range]) -> Shield:
    return replace(own, hard=Spans([*own.hard, *ranges])) if ranges else own


def _keeps_something(runs: Sequence[Sequence[tuple[str, bool]]], pinned: Sequence[Sequence[Range]]) -> bool:
    kept = sum(len(run) for one in runs for run, is_kept in one if is_kept and not run.isspace())
    return kept > sum(end - start for ranges in pinned for start, end in ranges)


def _count(text: str) -> int:
    return estimated_tokens([text])
