"""The pipeline: what it keeps, what it never touches, and the account that it gives."""

import json

import pytest

from meshkit.testing.clock import FakeClock
from services.compressor.offload import Offload
from services.compressor.pipeline import Order, Pipeline
from services.compressor.prompt_text import Part, frozen_chars, has_same_head
from services.compressor.stages.json_minify import JsonMinify
from services.compressor.stages.record_table import RecordTable
from services.compressor.stages.whitespace import Whitespace
from services.compressor.stages.xml_compact import XmlCompact
from services.compressor.token_counter import CountUnavailable, estimated_tokens

RECORDS = json.dumps([{"id": i, "name": f"name {i}"} for i in range(20)], indent=2)
LONG_PROSE = "A sentence that nothing can shorten. " * 20


class FakeCounter:
    """Counts characters; fails from the given call on."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.call_count = 0
        self._fails_at = fails_at

    async def count(self, texts):
        self.call_count += 1
        if self._fails_at is not None and self.call_count >= self._fails_at:
            raise CountUnavailable("gone")
        return sum(len(text) for text in texts)


class StubbornCounter(FakeCounter):
    """To this model everything is as long as before."""

    async def count(self, texts):
        await super().count(texts)
        return 100


def pipeline(least_chars: int = 32_768) -> Pipeline:
    stages = (JsonMinify(), XmlCompact(), Whitespace(), RecordTable())
    offload = Offload(least_chars=least_chars, concurrency=1)
    return Pipeline(stages, offload=offload, clock=FakeClock())


def order(*parts: tuple[str, str], **changes) -> Order:
    return Order(parts=tuple(Part(role=role, text=text) for role, text in parts), **changes)


async def test_the_ledger_adds_up_from_the_original_to_the_result():
    outcome = await pipeline().compress(order(("tool", RECORDS + "  \n\n\n\nend")), FakeCounter())
    assert outcome.stages[0].tokens_before == outcome.original_tokens
    assert outcome.stages[-1].tokens_after == outcome.compressed_tokens
    for earlier, later in zip(outcome.stages, outcome.stages[1:], strict=False):
        assert earlier.tokens_after == later.tokens_before
    assert [report.segment_count > 0 for report in outcome.stages] == [True, False, True, True]
    assert outcome.token_reduction == pytest.approx(1 - outcome.compressed_tokens / outcome.original_tokens)
    assert 0 < outcome.quality.low <= outcome.quality.score <= outcome.quality.high <= 1
    assert outcome.reason_original_kept == ""


async def test_an_untouched_prompt_has_full_quality_and_a_reason():
    outcome = await pipeline().compress(order(("user", LONG_PROSE)), FakeCounter())
    assert outcome.texts == (LONG_PROSE,)
    assert (outcome.quality.score, outcome.quality.low, outcome.token_reduction) == (1.0, 1.0, 0.0)
    assert outcome.reason_original_kept == "no stage makes it shorter"


@pytest.mark.parametrize("text", ["hello", LONG_PROSE])
async def test_a_prompt_that_nothing_changes_is_estimated_without_asking(text):
    counter = FakeCounter()
    outcome = await pipeline().compress(order(("user", text)), counter)
    assert counter.call_count == 0
    assert outcome.is_estimate
    assert outcome.original_tokens == outcome.compressed_tokens == estimated_tokens([text])


@pytest.mark.parametrize("fails_at", [1, 2, 3])
async def test_a_counter_that_fails_at_any_time_leaves_estimates_throughout(fails_at):
    outcome = await pipeline().compress(order(("user", RECORDS)), FakeCounter(fails_at))
    assert outcome.is_estimate
    assert outcome.original_tokens == estimated_tokens([RECORDS])
    assert outcome == await pipeline().compress(order(("user", RECORDS)), None)


async def test_a_stage_that_saves_no_tokens_is_not_kept():
    outcome = await pipeline().compress(order(("user", RECORDS)), StubbornCounter())
    assert outcome.texts == (RECORDS,)
    assert all(report.segment_count == 0 for report in outcome.stages)
    assert outcome.quality.score == 1.0


async def test_stages_stop_once_the_target_is_met():
    outcome = await pipeline().compress(order(("user", RECORDS), target_ratio=0.99), FakeCounter())
    assert [report.stage for report in outcome.stages] == ["json_minify"]


async def test_below_the_quality_floor_the_original_is_returned_with_the_reason():
    outcome = await pipeline().compress(order(("user", RECORDS), min_quality=1.0), FakeCounter())
    assert outcome.texts == (RECORDS,)
    assert outcome.compressed_tokens == outcome.original_tokens
    assert outcome.quality.score == 1.0
    assert "below the floor 1.000" in outcome.reason_original_kept


@pytest.mark.parametrize(
    ("role", "is_rewritten"), [("user", True), ("tool", True), ("system", True), ("assistant", False)]
)
async def test_data_is_rewritten_in_every_role_but_the_assistants(role, is_rewritten):
    outcome = await pipeline().compress(order((role, RECORDS)), FakeCounter())
    assert (outcome.texts != (RECORDS,)) == is_rewritten


async def test_white_space_of_the_system_message_is_kept():
    text = "You are   \n\n\n\nterse." + LONG_PROSE
    assert (await pipeline().compress(order(("system", text)), FakeCounter())).texts == (text,)


async def test_no_word_of_the_live_instruction_changes():
    instruction = "Which names are in this list? Answer with   two words, please."
    outcome = await pipeline().compress(order(("user", f"{instruction}\n{RECORDS}\n{instruction}")), FakeCounter())
    assert outcome.texts[0].startswith(instruction + "\n")
    assert outcome.texts[0].endswith("\n" + instruction)


async def test_a_turn_becomes_the_same_whatever_follows_it():
    first = ("user", RECORDS + "  \nWhat is this?")
    alone = await pipeline().compress(order(first), FakeCounter())
    later = await pipeline().compress(order(first, ("assistant", "A list."), ("user", '{ "a": 1 }')), FakeCounter())
    assert later.texts[:2] == (alone.texts[0], "A list.")


@pytest.mark.parametrize("frozen_bytes", [0, 1, 10, 57, 58, 59, 60, 100, 10_000])
async def test_the_frozen_prefix_over_all_messages_is_byte_identical(frozen_bytes):
    texts = ["é" * 5 + ' { "a": 1 }', '{ "b": "ü" }', RECORDS]
    outcome = await pipeline().compress(
        order(*(("user", text) for text in texts), frozen_bytes=frozen_bytes), FakeCounter()
    )
    assert "".join(outcome.texts).encode()[:frozen_bytes] == "".join(texts).encode()[:frozen_bytes]
    assert outcome.is_prefix_kept


async def test_large_prompts_give_the_same_off_the_loop():
    here = await pipeline(least_chars=10**9).compress(order(("user", RECORDS)), FakeCounter())
    there = await pipeline(least_chars=0).compress(order(("user", RECORDS)), FakeCounter())
    assert here == there


@pytest.mark.parametrize(
    ("frozen_bytes", "expected"), [(0, [0, 0]), (1, [1, 0]), (2, [2, 0]), (3, [2, 0]), (4, [2, 1]), (99, [2, 2])]
)
def test_a_character_cut_by_the_frozen_limit_counts_as_frozen(frozen_bytes, expected):
    assert frozen_chars(["aé", "bc"], frozen_bytes) == expected


@pytest.mark.parametrize(
    ("other", "byte_count", "expected"),
    [(("ab", "cd"), 4, True), (("ab", "xd"), 3, False), (("ab", "cx"), 3, True), (("abc", "d"), 4, False)],
)
def test_heads_are_compared_message_by_message(other, byte_count, expected):
    assert has_same_head(("ab", "cd"), other, byte_count) == expected
