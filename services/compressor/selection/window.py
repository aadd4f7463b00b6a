"""A conversation's turns: which belong together, which stay since they are recent, and which need not be sent at all.

The sliding window keeps what was said just before the live turn, whole turns and tool calls with their results, since
questions in a conversation lean on the exchange before them ("and the second one?"), which shares no word with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.compressor.prompt_text import Part

_TURNS = frozenset({"user", "assistant"})
_SHARE = 0.05
"""Of the budget."""


def tool_units(parts: Sequence[Part]) -> Iterator[list[int]]:
    """Numbers of the parts that a call of tools is made of: the assistant's turn and the results that follow it."""
    unit: list[int] = []
    for number, part in enumerate(parts):
        if part.role == "tool":
            unit.append(number)
            continue
        if len(unit) > 1:
            yield unit
        unit = [number] if part.role == "assistant" else []
    if len(unit) > 1:
        yield unit


def gaps(parts: Sequence[Part], is_left_out: Sequence[bool]) -> list[list[int]]:
    """Runs of turns that are wholly left out, by their numbers. The first of each holds a marker for all of it, and the
    others need not be sent. Where without the last two turns of one role would follow each other, it is a run alone."""
    found: list[list[int]] = []
    run: list[int] = []
    for number, part in enumerate(parts):
        if is_left_out[number] and part.role in _TURNS and not part.calls:
            run.append(number)
        elif run:
            found += _split(run, parts)
            run = []
    return found + (_split(run, parts) if run else [])


def _split(run: list[int], parts: Sequence[Part]) -> list[list[int]]:
    after = run[-1] + 1
    is_apart = after == len(parts) or parts[after].role == parts[run[0]].role
    return [run[:-1], run[-1:]] if is_apart and len(run) > 1 else [run]


def recent_turns(parts: Sequence[Part], sizes: Sequence[int], budget_tokens: int) -> set[int]:
    """Numbers of the parts before the live turn that fit into the window; none before the first answer."""
    live = max((number for number, part in enumerate(parts) if part.role == "user"), default=0)
    if not any(part.role == "assistant" for part in parts[:live]):
        return set()
    unit_of = {number: unit for unit in tool_units(parts[:live]) for number in unit}
    room = _SHARE * budget_tokens
    found: set[int] = set()
    number = live - 1
    while number >= 0:
        unit = unit_of.get(number, [number])
        room -= sum(sizes[one] for one in unit)
        if room < 0 or parts[number].role == "system":
            break
        found.update(unit)
        number = unit[0] - 1
    return found
