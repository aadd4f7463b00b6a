"""Which model, which instance, at which price."""

from __future__ import annotations

import contextlib

import pytest

from services.router.balancer import Balancer, EngineLoad
from services.router.catalogue import Catalogue
from services.router.events import Compression, Usage
from services.router.pricing import Price, bill
from tests.unit.router.fakes import PRICE, instance


def load(running: int, waiting: int = 0, **changes: object) -> EngineLoad:
    return EngineLoad(running_count=running, waiting_count=waiting, max_running_count=16, **changes)  # type: ignore[arg-type]


def test_the_least_loaded_instance_is_chosen() -> None:
    a, b = instance("a"), instance("b")
    balancer = Balancer()
    balancer.report("a", load(5))
    balancer.report("b", load(1))
    assert balancer.choose([a, b]) is b
    balancer.report("b", load(1, waiting=9))
    assert balancer.choose([a, b]) is a


def test_what_was_sent_since_the_report_counts() -> None:
    a, b = instance("a"), instance("b")
    balancer = Balancer()
    for name in "ab":
        balancer.report(name, load(0))
    with balancer.sending_to(a), balancer.sending_to(a):
        assert balancer.choose([a, b]) is b
    assert balancer.in_flight_count(a) == 0


def test_a_draining_instance_is_the_last_choice() -> None:
    a, b = instance("a"), instance("b")
    balancer = Balancer()
    balancer.report("a", load(0, is_draining=True))
    balancer.report("b", load(16, waiting=50))
    assert balancer.choose([a, b]) is b


def test_who_holds_most_of_the_prompt_is_chosen() -> None:
    a, b, c = instance("a"), instance("b"), instance("c")
    balancer = Balancer()
    for name, count in (("a", 1), ("b", 1), ("c", 0)):
        balancer.report(name, load(count))
    assert balancer.choose([a, b, c], {"a": 64, "b": 512, "gone": 9000}) is b
    assert balancer.choose([a, b, c], {"gone": 9000}) is c


def test_of_those_that_hold_the_same_the_least_loaded_is_chosen() -> None:
    a, b = instance("a"), instance("b")
    balancer = Balancer()
    balancer.report("a", load(2))
    balancer.report("b", load(1))
    assert balancer.choose([a, b], {"a": 512, "b": 512}) is b


@pytest.mark.parametrize(
    ("held_by", "other", "is_chosen"),
    [
        (load(0), load(0), True),
        (load(4), load(4), True),
        # 1.25 times the fair share of 10 in all is 6.25, so at most 7.
        (load(6), load(3), True),
        (load(7), load(2), False),
        # It would wait, and the other one would not.
        (load(16), load(15), False),
        (load(16), load(16), True),
        (load(0, is_draining=True), load(4), False),
    ],
)
def test_a_prefix_never_brings_an_instance_over_its_bound(
    held_by: EngineLoad, other: EngineLoad, is_chosen: bool
) -> None:
    a, b = instance("a"), instance("b")
    balancer = Balancer()
    balancer.report("a", held_by)
    balancer.report("b", other)
    assert (balancer.choose([a, b], {"a": 512}) is a) is is_chosen


def test_a_prefix_that_everybody_shares_ends_up_on_every_instance() -> None:
    instances = [instance(name) for name in "abcd"]
    balancer, held = Balancer(), {"a": 512}
    with contextlib.ExitStack() as requests:
        for _ in range(40):
            chosen = balancer.choose(instances, held)
            held[chosen.id] = 512
            requests.enter_context(balancer.sending_to(chosen))
        counts = [balancer.in_flight_count(one) for one in instances]
    assert max(counts) <= 13 and min(counts) >= 5


def test_equals_share_the_load() -> None:
    instances = [instance(name) for name in "abcd"]
    balancer = Balancer()
    chosen = {balancer.choose(instances).id for _ in range(200)}
    assert chosen == set("abcd")


def test_a_request_that_names_nothing_gets_the_cheapest_model_that_is_ready() -> None:
    cheap = Price(input_micro_usd=1, cached_input_micro_usd=1, output_micro_usd=1)
    catalogue = Catalogue({"standard": PRICE, "fast": cheap})
    known = (instance("a"), instance("b", model="tiny", tier="fast"))
    assert catalogue.choose(known).name == "tiny"
    assert catalogue.choose(known, tier="standard").name == "small"
    assert [model.name for model in catalogue.models(known)] == ["small", "tiny"]


@pytest.mark.parametrize(
    ("usage", "compression", "total", "saved"),
    [
        (Usage(prompt_tokens=100, completion_tokens=10), None, 120, 0),
        (Usage(prompt_tokens=100, cached_prompt_tokens=60, completion_tokens=0), None, 70, 0),
        (Usage(prompt_tokens=50), Compression(original_tokens=100, compressed_tokens=50), 50, 50),
        # A mechanism that lost money says so.
        (Usage(prompt_tokens=110), Compression(original_tokens=100, compressed_tokens=110), 110, -10),
    ],
)
def test_the_bill_counts_each_token_once(usage: Usage, compression: Compression | None, total: int, saved: int) -> None:
    cost = bill(PRICE, usage, compression)
    assert (cost.total, cost.saved_by_compression, cost.counterfactual) == (total, saved, total + saved)
