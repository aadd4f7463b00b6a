"""Which entries rules hide: by number and selector, in any order of hearing, and never fewer than was asked for."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.entry import Entry
from services.cache.epochs import EVERYTHING, Epochs, Kind, Rule, Selector
from services.cache.request_key import partition, storage_key

ANN, BOB = partition("ann"), partition("bob")
ENTRY = Entry(payload=b"x", stored_at=0, fresh_until=9, expires_at=9, epoch=5, revision="r1", tags=("a", "b"))
KEY = storage_key("ann", b"\x01\x02" + bytes(30))

SELECTORS = {
    "everything": (EVERYTHING, True),
    "its revision": (Selector(kind=Kind.REVISION, value=b"r1"), True),
    "another revision": (Selector(kind=Kind.REVISION, value=b"r"), False),
    "a tag of it": (Selector(kind=Kind.TAG, value=b"b"), True),
    "another tag": (Selector(kind=Kind.TAG, value=b"ab"), False),
    "its digest's first byte": (Selector(kind=Kind.DIGEST_PREFIX, value=b"\x01"), True),
    "its whole digest": (Selector(kind=Kind.DIGEST_PREFIX, value=b"\x01\x02" + bytes(30)), True),
    "another digest": (Selector(kind=Kind.DIGEST_PREFIX, value=b"\x02"), False),
}


def knowing(*rules: Rule, max_rules: int = 100) -> Epochs:
    epochs = Epochs(max_rules=max_rules)
    for rule in rules:
        epochs.add(rule)
    return epochs


def a_rule(number: int, selector: Selector = EVERYTHING, of: bytes = ANN) -> Rule:
    return Rule(partition=of, selector=selector, number=number)


def of_epoch(number: int) -> Entry:
    return dataclasses.replace(ENTRY, epoch=number)


@pytest.mark.parametrize("name", SELECTORS)
def test_a_rule_hides_the_older_entries_that_it_selects_and_no_others(name):
    selector, selects = SELECTORS[name]
    epochs = knowing(a_rule(6, selector))
    assert epochs.is_visible(KEY, of_epoch(5)) != selects
    assert epochs.is_visible(KEY, of_epoch(6))


def test_a_rule_says_nothing_about_another_tenant():
    epochs = knowing(a_rule(6, of=BOB))
    assert epochs.is_visible(KEY, ENTRY)
    assert (epochs.number(ANN), epochs.number(BOB)) == (0, 6)


def test_a_look_up_takes_the_largest_number_of_its_tenant_along():
    assert knowing(a_rule(6), a_rule(9, SELECTORS["its revision"][0]), a_rule(7)).number(ANN) == 9


def test_rules_beyond_the_limit_hide_more_than_asked_for_and_never_less():
    tags = [Selector(kind=Kind.TAG, value=f"t{number}".encode()) for number in range(4)]
    epochs = knowing(*(a_rule(10 + number, tag) for number, tag in enumerate(tags)), max_rules=3)
    assert not epochs.is_visible(KEY, of_epoch(9))
    assert epochs.is_visible(KEY, of_epoch(10))
    assert not epochs.is_visible(KEY, dataclasses.replace(of_epoch(12), tags=("t3",)))
    assert len(list(epochs.rules(ANN))) == 4


def test_rules_that_everything_older_has_outlived_become_one():
    epochs = knowing(a_rule(6, SELECTORS["another tag"][0]), a_rule(7, SELECTORS["another digest"][0]), a_rule(50))
    epochs.add(a_rule(60, SELECTORS["its revision"][0]))
    epochs.fold(ANN, below=61)
    assert list(epochs.rules(ANN)) == [a_rule(60)]
    epochs.fold(BOB, below=61)
    assert list(epochs.rules(BOB)) == []


rules = st.builds(
    Rule,
    partition=st.sampled_from([ANN, BOB]),
    selector=st.sampled_from([selector for selector, _ in SELECTORS.values()]),
    number=st.integers(1, 20),
)


@given(st.lists(rules, max_size=12), st.randoms(), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_the_order_in_which_rules_are_heard_and_how_often_does_not_matter(heard, random, epoch):
    again = heard + heard[: len(heard) // 2]
    random.shuffle(again)
    one, other = knowing(*heard), knowing(*again)
    assert set(one.rules()) == set(other.rules())
    hidden = any(rule.partition == ANN and epoch < rule.number and rule.selector.selects(KEY, ENTRY) for rule in heard)
    assert one.is_visible(KEY, of_epoch(epoch)) != hidden


@given(st.lists(rules, max_size=12), st.integers(1, 3), st.integers(0, 25), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_bounded_knowledge_never_shows_what_full_knowledge_hides(heard, max_rules, below, epoch):
    full, bounded = knowing(*heard), knowing(*heard, max_rules=max_rules)
    bounded.fold(ANN, below=below)
    if bounded.is_visible(KEY, of_epoch(epoch)):
        assert full.is_visible(KEY, of_epoch(epoch))
    assert len(list(bounded.rules(ANN))) <= max_rules + 1
