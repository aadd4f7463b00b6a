"""The selective stage: asks the selector which pieces are worth sending, and writes markers for the rest.

What may never go is added to what the selector is told to keep, and checked again in its answer. An answer that keeps
nothing is no selection: with nothing to read, a reader can only guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from services.compressor.live import live
from services.compressor.omission import Thinned, kept_and_left, thinned
from services.compressor.order import Order
from services.compressor.prompt_text import TOOL_SCHEMA, Part, frozen_chars
from services.compressor.selection.port import Selector, Task
from services.compressor.selection.window import gaps
from services.compressor.shield import Shield, shield
from services.compressor.spans import Range, Spans
from services.compressor.token_counter import estimated_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinning:
    """All open texts after selection."""

    texts: Sequence[Thinned]
    features: Mapping[str, float] = field(default_factory=dict)
    """What the selector noted of its choice."""


def thin(
    selector: Selector,
    order: Order,
    texts: Sequence[str],
    budget_tokens: int,
    is_enough: Callable[[Mapping[str, float]], bool] | None = None,
) -> Thinning:
    """The open texts with pieces left out, near the budget of estimated tokens where what is protected allows; with
    fewer where a choice is not good enough."""
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
        is_enough=is_enough,
    )
    selected = selector.select(task)
    runs = [
        kept_and_left(part.text, pieces, own) for part, pieces, own in zip(parts, selected.parts, shields, strict=True)
    ]
    if not _keeps_something(runs, found.pinned):
        return Thinning(texts=[Thinned(text=text) for text in texts])
    return Thinning(texts=with_markers(parts, runs, order.handle_of), features=selected.features)


def with_markers(
    parts: Sequence[Part], runs: Sequence[Sequence[tuple[str, bool]]], handle_of: Callable[[str], str] | None
) -> list[Thinned]:
    """The texts that these runs of each part give. A run of whole turns has one marker; the turns after the one that
    holds it are empty, as is a tool's schema that is left out, and are not sent."""
    results = [
        _whole_or_nothing(part.text, one) if part.role == TOOL_SCHEMA else thinned(one, handle_of)
        for part, one in zip(parts, runs, strict=True)
    ]
    for gap in gaps(parts, [any(one.left_out) and len(one.runs) == 1 for one in results]):
        said = "\n".join(f"{parts[number].role}: {parts[number].text.strip()}" for number in gap)
        if len(gap) > 1:
            results[gap[0]] = thinned([(said, False)], handle_of)
            for number in gap[1:]:
                results[number] = Thinned(text="")
    return results


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
