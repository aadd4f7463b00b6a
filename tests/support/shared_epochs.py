"""What every shared memory of rules must do, as one suite, and one that can be taken down."""

from __future__ import annotations

from typing import Any

from services.cache.epochs import EVERYTHING, Kind, Rule, Selector
from services.cache.request_key import partition
from services.cache.shared_epochs import PAGE_RULES, Heard, Issued, LocalEpochs, Once
from services.cache.tier import TierUnavailable

ANN, BOB = partition("ann"), partition("bob")
TAG = Selector(kind=Kind.TAG, value=b"t")
ONCE = Once(key=b"k" * 16, fingerprint=b"f" * 16)


def a_rule(number: int, selector: Selector = EVERYTHING, of: bytes = ANN) -> Rule:
    return Rule(partition=of, selector=selector, number=number)


class FlakyEpochs(LocalEpochs):
    """A memory that several instances share in one process, and that can be away."""

    is_down = False

    async def issue(self, *arguments: Any, **options: Any) -> Issued:
        self._check()
        return await super().issue(*arguments, **options)

    async def hear(self, number: int) -> Heard:
        self._check()
        return await super().hear(number)

    async def restore(self, rules: Any) -> None:
        self._check()
        await super().restore(rules)

    async def finish(self, once: Once, issued: Issued, outcome: bytes) -> None:
        self._check()
        await super().finish(once, issued, outcome)

    def _check(self) -> None:
        if self.is_down:
            raise TierUnavailable("down")


class SharedEpochsSuite:
    """Subclass with a fixture `memory`: a new one, and `flush`: makes it forget everything."""

    async def test_numbers_grow_over_tenants_and_from_what_the_caller_knows(self, memory):
        first = (await memory.issue(ANN, EVERYTHING, at_least=1)).number
        second = (await memory.issue(BOB, TAG, at_least=1)).number
        third = (await memory.issue(ANN, TAG, at_least=second + 10**9)).number
        assert first < second < second + 10**9 <= third
        assert (await memory.issue(ANN, TAG, at_least=1)).number > third

    async def test_rules_are_heard_from_a_number_on_the_smallest_first(self, memory):
        numbers = [(await memory.issue(ANN, selector, at_least=1)).number for selector in (TAG, EVERYTHING)]
        assert (await memory.hear(0)).rules == (a_rule(numbers[0], TAG), a_rule(numbers[1]))
        assert (await memory.hear(numbers[1])).rules == (a_rule(numbers[1]),)
        assert (await memory.hear(numbers[1] + 1)).rules == ()
        assert (await memory.hear(0)).is_all

    async def test_a_subject_keeps_its_largest_number_alone(self, memory):
        await memory.issue(ANN, TAG, at_least=1)
        number = (await memory.issue(ANN, TAG, at_least=1)).number
        assert (await memory.hear(0)).rules == (a_rule(number, TAG),)

    async def test_many_rules_come_in_pages(self, memory):
        rules = [
            a_rule(number, Selector(kind=Kind.TAG, value=b"%d" % number)) for number in range(1, PAGE_RULES * 2 + 3)
        ]
        await memory.restore(rules)
        heard, number = set(), 0
        for _ in range(4):
            page = await memory.hear(number)
            assert len(page.rules) <= PAGE_RULES
            heard |= set(page.rules)
            number = page.rules[-1].number
            if page.is_all:
                break
        assert heard == set(rules)

    async def test_a_memory_that_forgot_has_no_history_until_somebody_restores_it(self, memory, flush):
        await memory.restore([a_rule(5)])
        history = (await memory.hear(0)).history
        assert history
        await flush()
        assert (await memory.hear(0)).history == b""
        await memory.restore([a_rule(5)])
        assert (await memory.hear(0)).history not in (b"", history)
        assert (await memory.hear(0)).rules == (a_rule(5),)

    async def test_restoring_what_is_there_changes_nothing_and_less_is_not_lost(self, memory):
        await memory.restore([a_rule(5), a_rule(6, TAG)])
        before = await memory.hear(0)
        await memory.restore([a_rule(4), a_rule(6, TAG)])
        assert await memory.hear(0) == before
        await memory.restore([a_rule(7)])
        after = await memory.hear(0)
        assert after.history != before.history
        assert after.rules == (a_rule(6, TAG), a_rule(7))

    async def test_replaced_rules_are_forgotten_in_favour_of_others(self, memory):
        await memory.restore([a_rule(5, TAG), a_rule(6, EVERYTHING, BOB)])
        number = (await memory.issue(ANN, TAG, at_least=1, replaced=[a_rule(5, TAG)], by=[a_rule(5)])).number
        assert set((await memory.hear(0)).rules) == {a_rule(5), a_rule(6, EVERYTHING, BOB), a_rule(number, TAG)}

    async def test_an_order_with_a_key_counts_once_and_its_outcome_is_told_again(self, memory):
        first = await memory.issue(ANN, TAG, at_least=1, once=ONCE)
        again = await memory.issue(ANN, TAG, at_least=1, once=ONCE)
        assert (first.is_repeat, again.is_repeat) == (False, True)
        assert (again.number, again.fingerprint, again.outcome) == (first.number, ONCE.fingerprint, b"")
        await memory.finish(ONCE, first, b"\x00outcome:")
        assert (await memory.issue(ANN, TAG, at_least=1, once=ONCE)).outcome == b"\x00outcome:"
        assert len((await memory.hear(0)).rules) == 1
        other = Once(key=b"o" * 16, fingerprint=ONCE.fingerprint)
        assert not (await memory.issue(ANN, TAG, at_least=1, once=other)).is_repeat
