"""The prefix contract: turn n + 1 extends turn n, and eligibility is never claimed for what is not known."""

import pytest

from meshkit.testing.clock import FakeClock
from services.compressor.bounded import BoundedStore
from services.compressor.conversation import Conversations
from services.compressor.omission import MARKER
from services.compressor.sessions import Key, Sessions
from services.compressor.tariff import Tariff
from tests.unit.compressor.ordering import DOCUMENT, FACT, FILLER, QUESTION, CharacterCounter, order, pipeline

KEY = Key(tenant="a", session_id="s")
FIRST = (("system", "Be brief."), ("tool", DOCUMENT), ("user", QUESTION))
SECOND = (
    *FIRST,
    ("assistant", "Ivan Petrov."),
    ("tool", FILLER * 9),
    ("user", "How was the weather then, mild or dull?"),
)
THIRD = (*SECOND, ("assistant", "Mild."), ("user", "Thanks, and the boats?"))


class Meeting:
    """One compressor instance and one conversation."""

    def __init__(self, *, max_bytes: int = 1_000_000, clock: FakeClock | None = None, **changes) -> None:
        self.clock = clock or FakeClock()
        store = BoundedStore(max_bytes=max_bytes, ttl_s=60.0, clock=self.clock)
        self.conversations = Conversations(pipeline(**changes), Sessions(store))

    async def turn(self, parts, key: Key | None = KEY, *, remembers: bool = True, **changes):
        chosen = order(*parts, **{"target_ratio": 0.3, **changes})
        return await self.conversations.compress(chosen, CharacterCounter(), key, remembers=remembers)


async def test_what_a_turn_became_is_what_it_stays_whatever_is_asked_later():
    meeting = Meeting()
    first = await meeting.turn(FIRST)
    second = await meeting.turn(SECOND)
    third = await meeting.turn(THIRD)
    assert MARKER in first.texts[1]
    assert MARKER not in second.texts[3]
    assert second.texts[:3] == first.texts
    assert third.texts[:6] == second.texts
    assert [one.is_prefix_kept for one in (first, second, third)] == [False, True, True]


async def test_the_ledger_of_a_later_turn_adds_up_from_the_original():
    meeting = Meeting()
    await meeting.turn(FIRST)
    second = await meeting.turn(SECOND)
    assert second.stages[0].stage == "earlier_turns"
    assert second.stages[0].tokens_before == second.original_tokens == sum(len(text) for _, text in SECOND)
    assert second.stages[-1].tokens_after == second.compressed_tokens


async def test_the_same_prompt_again_goes_out_byte_for_byte():
    meeting = Meeting()
    first = await meeting.turn(FIRST)
    again = await meeting.turn(FIRST, target_ratio=0.9)
    assert again.texts == first.texts
    assert again.is_prefix_kept


async def test_an_instance_that_does_not_know_the_conversation_derives_it_and_does_not_claim_it():
    one, other = Meeting(), Meeting()
    await one.turn(FIRST)
    known = await one.turn(SECOND)
    derived = await other.turn(SECOND)
    assert derived.texts[:3] == known.texts[:3]
    assert (known.is_prefix_kept, derived.is_prefix_kept) == (True, False)
    assert (await other.turn(THIRD)).is_prefix_kept


@pytest.mark.parametrize("key", [Key(tenant="b", session_id="s"), Key(tenant="a", session_id="t")])
async def test_another_tenant_or_session_is_another_conversation(key):
    meeting = Meeting()
    await meeting.turn(FIRST)
    assert not (await meeting.turn(SECOND, key)).is_prefix_kept


async def test_a_conversation_that_was_forgotten_is_not_claimed():
    meeting = Meeting()
    await meeting.turn(FIRST)
    await meeting.clock.advance(61)
    assert not (await meeting.turn(SECOND)).is_prefix_kept
    small = Meeting(max_bytes=100)
    await small.turn(FIRST)
    assert not (await small.turn(SECOND)).is_prefix_kept


async def test_a_preview_changes_no_conversation():
    meeting = Meeting()
    previewed = await meeting.turn(FIRST, remembers=False)
    first = await meeting.turn(FIRST)
    assert previewed.texts == first.texts
    assert not first.is_prefix_kept


async def test_an_edited_turn_is_decided_anew_and_the_messages_before_it_still_count():
    meeting = Meeting()
    await meeting.turn(SECOND)
    edited = (*SECOND[:5], ("user", "And how were the boats?"))
    outcome = await meeting.turn(edited)
    assert outcome.texts[5] == "And how were the boats?"
    assert outcome.is_prefix_kept


async def test_what_is_protected_only_now_is_sent_again_in_full_and_the_break_is_told():
    meeting = Meeting()
    await meeting.turn(FIRST)
    marked = "Boats came and went"
    second = await meeting.turn(SECOND, protect=(marked,))
    assert second.texts[1].count(marked) == DOCUMENT.count(marked)
    assert not second.is_prefix_kept


async def test_what_is_frozen_only_now_is_the_callers_own_bytes():
    meeting = Meeting()
    await meeting.turn(FIRST)
    second = await meeting.turn(SECOND, frozen_bytes=len("Be brief." + DOCUMENT))
    assert second.texts[1] == DOCUMENT
    assert not second.is_prefix_kept


async def test_a_turn_sent_as_it_is_counts_as_what_went_out():
    meeting = Meeting()
    await meeting.turn(FIRST)
    assert not meeting.conversations.untouched(order(*SECOND).parts, KEY, remembers=True)
    assert meeting.conversations.untouched(order(*THIRD).parts, KEY, remembers=True)


async def test_below_the_floor_the_whole_original_goes_out_and_stays():
    meeting = Meeting(score=0.5)
    first = await meeting.turn(FIRST)
    second = await meeting.turn(SECOND, min_quality=0.9)
    third = await meeting.turn(THIRD)
    assert MARKER in first.texts[1]
    assert second.texts == tuple(text for _, text in SECOND)
    assert not second.is_prefix_kept
    assert third.texts[:6] == second.texts
    assert third.is_prefix_kept


async def test_giving_up_cached_reads_for_a_small_saving_sends_the_original_with_the_reason():
    """The conversation went out as it is, so its prefix is cached; a stage that broke it now would cost more."""
    priced = {"tariff": Tariff(input_micro_usd=1e6, cached_input_micro_usd=1e4)}
    parts = (("tool", DOCUMENT), ("user", QUESTION))
    later = (*parts, ("assistant", "Ivan."), ("user", "And who was the last keeper of the lighthouse?"))
    fresh = await pipeline().compress(
        order(*later, target_ratio=0.3, last_sent=tuple(text for _, text in parts), **priced), CharacterCounter()
    )
    assert fresh.texts == tuple(text for _, text in later)
    assert fresh.reason_original_kept.startswith("it would cost more than it saves: ")
    assert "prefix-cache reads lost" in fresh.reason_original_kept
    cold = await pipeline().compress(order(*later, target_ratio=0.3, **priced), CharacterCounter())
    assert FACT in cold.texts[0] != DOCUMENT
    assert cold.net_benefit_micro_usd == cold.original_tokens - cold.compressed_tokens


async def test_time_is_weighed_where_prices_are_known():
    class Slow(FakeClock):
        def now(self):
            self._now += 1.0
            return self._now

    chosen = order(("tool", DOCUMENT), ("user", QUESTION), target_ratio=0.3)
    paid = order(
        ("tool", DOCUMENT),
        ("user", QUESTION),
        target_ratio=0.3,
        tariff=Tariff(input_micro_usd=1e6, cached_input_micro_usd=0),
    )
    slow = pipeline(micro_usd_per_s=1_000.0, clock=Slow())
    assert (await slow.compress(chosen, CharacterCounter())).compressed_tokens < len(DOCUMENT)
    refused = await slow.compress(paid, CharacterCounter())
    assert refused.texts == (DOCUMENT, QUESTION)
    assert "micro-USD spent on it" in refused.reason_original_kept
