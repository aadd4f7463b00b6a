"""Who goes first: priority, then how soon an answer is due, then arrival, such that nobody waits for ever.

A sequence's precedence is the moment at which it arrived, plus the time that it leaves for its first token, minus
`ageing_s` for each step of priority; the lowest goes first. So a step of priority is worth `ageing_s` seconds of
waiting. What is left for the first token counts as at most `ageing_s`: an objective is worth no more than one step of
priority, and a sequence without one stands behind its equals that have one. All age alike, so the order never changes
while they wait.

Starvation bound: with priorities of -10..10, a sequence that has waited for 21 x `ageing_s` seconds goes before
every sequence that arrives from then on (`starvation_bound_s`).
"""

from __future__ import annotations

from services.inference.engine.messages import AddSequence

LEAST_PRIORITY, MOST_PRIORITY = -10, 10


def precedence_of(request: AddSequence, arrived_at: float, ageing_s: float) -> float:
    """Lower goes first. Priorities outside of the range count as its ends."""
    priority = min(max(request.priority, LEAST_PRIORITY), MOST_PRIORITY)
    return arrived_at + _room_s(request, ageing_s) - priority * ageing_s


def starvation_bound_s(ageing_s: float) -> float:
    """After this long in line, nobody who arrives goes first."""
    return (MOST_PRIORITY - LEAST_PRIORITY + 1) * ageing_s


def _room_s(request: AddSequence, ageing_s: float) -> float:
    wishes = [wish for wish in (request.ttft_slo_s, request.deadline_s) if wish is not None]
    return max(0.0, min([ageing_s, *wishes]))
