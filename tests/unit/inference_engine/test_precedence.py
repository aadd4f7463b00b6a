"""Rules of who goes first."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.inference.engine.precedence import precedence_of, starvation_bound_s
from tests.unit.inference_engine.requests import request

AGEING_S = 5.0
wishes = st.fixed_dictionaries(
    {
        "priority": st.integers(-20, 20),
        "deadline_s": st.none() | st.floats(-1.0, 1e4),
        "ttft_slo_s": st.none() | st.floats(0.0, 1e4),
    }
)


def order(arrived_at: float = 0.0, **fields: Any) -> float:
    return precedence_of(request(1, [9], **fields), arrived_at, AGEING_S)


@given(wishes, wishes, st.floats(0.0, 1e6), st.floats(0.001, 1e6))
def test_who_has_waited_for_the_bound_goes_before_everyone_who_arrives_from_then_on(
    older: dict[str, Any], newer: dict[str, Any], arrived_at: float, later_s: float
) -> None:
    bound_s = starvation_bound_s(AGEING_S)
    assert order(arrived_at, **older) < order(arrived_at + bound_s + later_s, **newer)


@given(wishes, st.floats(0.0, 1e6), st.floats(0.001, 1e6))
def test_of_two_with_the_same_wishes_the_first_to_come_goes_first(
    fields: dict[str, Any], arrived_at: float, later_s: float
) -> None:
    assert order(arrived_at, **fields) < order(arrived_at + later_s, **fields)


@given(wishes, wishes)
def test_of_two_that_come_together_two_steps_of_priority_outweigh_any_objective(
    high: dict[str, Any], low: dict[str, Any]
) -> None:
    assert order(**{**high, "priority": 2}) < order(**{**low, "priority": 0})


def test_a_sooner_objective_goes_before_a_later_one_and_that_before_none() -> None:
    assert order(ttft_slo_s=0.5) < order(ttft_slo_s=2.0) < order()
    assert order(deadline_s=1.0) < order(ttft_slo_s=2.0)
