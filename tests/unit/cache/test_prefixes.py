"""Which engine holds the beginning of a prompt: breakpoints, what is noted of prompts, what lies where."""

from __future__ import annotations

import random

import pytest

from meshkit.errors import InvalidRequest
from services.cache.prefixes.breakpoints import MOST_MARKS, PART_CHARACTERS, Breakpoints, breakpoints
from services.cache.prefixes.placement import Holder, Placement
from services.cache.prefixes.prefix_index import PrefixIndex, PromptBlocks
from services.cache.prefixes.resident import MissedEvents, ResidentBlocks

BLOCK = 16


def request(*turns: tuple[str, str], **fields) -> dict:
    messages = [{"role": role, "content": content} for role, content in turns]
    return {"model": "m", "revision": "r", "prompt": {"messages": {"messages": messages}}, **fields}


def text(content: str, **fields) -> dict:
    return {"model": "m", "revision": "r", "prompt": {"text": content}, **fields}


def shared_count(one: dict, other: dict) -> int:
    """Marks that two prompts have in common."""
    first, second = breakpoints(one).marks, breakpoints(other).marks
    count = sum(a.digest == b.digest for a, b in zip(first, second, strict=False))
    assert [mark.digest for mark in first[:count]] == [mark.digest for mark in second[:count]]
    return count


SYSTEM, HI, HELLO = ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")


def test_a_conversation_goes_on_from_the_marks_of_its_earlier_turns() -> None:
    first = request(SYSTEM, HI)
    assert len(breakpoints(first).marks) == 2
    assert shared_count(first, request(SYSTEM, HI, HELLO, ("user", "And now?"))) == 2
    assert shared_count(first, request(SYSTEM, ("user", "Bye"))) == 1


@pytest.mark.parametrize(
    "other",
    [
        request(SYSTEM, HI, model="n"),
        request(SYSTEM, HI, revision="s"),
        request(SYSTEM, HI, template_digest="t"),
        request(SYSTEM, HI, compressor_version="c"),
        request(("user", "Be brief."), HI),
        {**request(), "prompt": {**request(SYSTEM, HI)["prompt"], "tools": [{"name": "f"}]}},
        {**request(), "prompt": {**request(SYSTEM, HI)["prompt"], "raw": True}},
    ],
)
def test_prompts_that_an_engine_reads_differently_from_the_start_share_no_mark(other: dict) -> None:
    assert shared_count(request(SYSTEM, HI), other) == 0


def test_what_changes_the_answer_alone_changes_no_mark() -> None:
    assert breakpoints(request(HI, sampling={"temperature": 1.0})) == breakpoints(request(HI))


def test_tools_come_before_turns() -> None:
    tools = [{"name": "f"}, {"name": "g"}]
    one, other = (
        {**request(), "prompt": {**request(SYSTEM, turn)["prompt"], "tools": tools}} for turn in (HI, ("user", "Bye"))
    )
    assert shared_count(one, other) == 3


@pytest.mark.parametrize("wrap", [text, lambda content: request(("user", content))], ids=["text", "turn"])
def test_long_texts_have_marks_of_their_own_at_equal_distances(wrap) -> None:
    document = "x" * (3 * PART_CHARACTERS)
    assert shared_count(wrap(document + "one question"), wrap(document + "another question")) == 3
    assert shared_count(wrap(document), wrap(document + "and more")) == 3


def test_ids_are_cut_like_texts() -> None:
    def ids(*numbers: int) -> dict:
        return {"model": "m", "prompt": {"token_ids": {"ids": list(numbers)}}}

    assert shared_count(ids(*range(300)), ids(*range(256), 7)) == 1


def test_marks_are_bounded_whatever_the_prompt() -> None:
    points = breakpoints(text("x" * (MOST_MARKS + 50) * PART_CHARACTERS))
    assert len(points.marks) == MOST_MARKS and points.length == (MOST_MARKS + 50) * PART_CHARACTERS
    assert Breakpoints.parse(bytes(points)) == points


@pytest.mark.parametrize("packed", [b"", b"abc", b"\x00" * 4, b"\x00" * 15, b"\x00" * 16, b"\x00" * (4 + 12 * 257)])
def test_bytes_that_are_no_marks_are_refused(packed: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Breakpoints.parse(packed)


def blocks(count: int, first: int = 0) -> PromptBlocks:
    return PromptBlocks(hashes=range(first, first + count), block_tokens=BLOCK, prompt_tokens=count * BLOCK + 5)


class Mesh:
    """A placement with what it rests on."""

    def __init__(self, budget_bytes: int = 1_000_000, max_blocks: int = 10_000) -> None:
        self.index = PrefixIndex(budget_bytes=budget_bytes)
        self.resident = ResidentBlocks(max_blocks=max_blocks)
        self.placement = Placement(self.index, self.resident)

    def engine(self, name: str, hashes=(), model: str = "m", revision: str = "r") -> None:
        self.resident.begin(name, model=model, revision=revision, number=1, hashes=list(hashes))

    def note(self, asked: dict, noted: PromptBlocks, tenant: str = "a") -> None:
        self.placement.note(tenant, self.placement.hint(tenant, asked).marks, noted)

    def holders(self, asked: dict, tenant: str = "a") -> list[tuple[str, int]]:
        hint = self.placement.hint(tenant, asked)
        return [(holder.instance_id, holder.resident_tokens) for holder in hint.holders]


def test_the_hint_names_who_holds_most_first_and_how_much() -> None:
    mesh = Mesh()
    asked = request(SYSTEM, HI)
    mesh.note(asked, blocks(10))
    mesh.engine("one", range(4))
    mesh.engine("all", range(10))
    mesh.engine("hole", [0, 2, 3, 4, 5])
    mesh.engine("none", range(50, 60))
    assert mesh.holders(request(SYSTEM, HI, HELLO, ("user", "More"))) == [("all", 160), ("one", 64), ("hole", 16)]


def test_a_prompt_that_shares_its_first_part_alone_is_told_of_about_that_part() -> None:
    mesh = Mesh()
    static = ("system", "x" * 800)
    mesh.note(request(static, ("user", "y" * 200)), blocks(100))
    mesh.engine("a", range(100))
    assert mesh.holders(request(static, ("user", "z" * 900))) == [("a", 80 * BLOCK)]


def test_a_whole_prompt_that_was_noted_is_said_to_be() -> None:
    mesh = Mesh()
    asked = request(SYSTEM, HI)
    assert not mesh.placement.hint("a", asked).is_noted
    mesh.note(asked, blocks(3))
    assert mesh.placement.hint("a", asked).is_noted
    assert not mesh.placement.hint("a", request(SYSTEM, HI, HELLO)).is_noted


def test_no_tenant_learns_from_anothers_prompts() -> None:
    mesh = Mesh()
    asked = request(SYSTEM, HI)
    mesh.note(asked, blocks(10), tenant="a")
    mesh.engine("one", range(10))
    assert mesh.holders(asked, tenant="b") == []
    assert not mesh.placement.hint("b", asked).is_noted


def test_engines_of_another_model_or_revision_are_not_named() -> None:
    mesh = Mesh()
    asked = request(SYSTEM, HI, revision="r,s")
    mesh.note(asked, blocks(10))
    mesh.engine("other model", range(10), model="n")
    mesh.engine("old", range(10), revision="q")
    mesh.engine("new", range(10), revision="s")
    assert mesh.holders(asked) == [("new", 160)]


def test_evicted_blocks_and_engines_that_went_away_are_not_told() -> None:
    mesh = Mesh()
    asked = request(SYSTEM, HI)
    mesh.note(asked, blocks(10))
    mesh.engine("one", range(5))
    mesh.resident.change("one", 2, stored=range(5, 10))
    assert mesh.holders(asked) == [("one", 160)]
    mesh.resident.change("one", 3, evicted=[4])
    assert mesh.holders(asked) == [("one", 64)]
    mesh.resident.forget("one")
    assert mesh.holders(asked) == []


@pytest.mark.parametrize("number", [1, 3])
def test_a_gap_or_a_repetition_in_the_numbers_asks_for_a_snapshot(number: int) -> None:
    mesh = Mesh()
    mesh.engine("one", range(5))
    with pytest.raises(MissedEvents):
        mesh.resident.change("one", number, stored=[7])
    with pytest.raises(MissedEvents):
        mesh.resident.change("stranger", 2, stored=[7])


def test_blocks_of_all_engines_together_are_bounded() -> None:
    mesh = Mesh(max_blocks=12)
    mesh.note(request(HI), blocks(10))
    mesh.engine("one", range(10))
    mesh.engine("two", range(10))
    assert mesh.resident.block_count == 12 and mesh.holders(request(HI)) == [("one", 160), ("two", 32)]
    mesh.resident.change("one", 2, evicted=range(5, 10))
    mesh.resident.change("two", 2, stored=range(2, 10))
    assert mesh.resident.block_count == 12


def test_prompts_are_kept_within_the_budget_and_the_least_used_go_first() -> None:
    mesh = Mesh(budget_bytes=20_000)
    mesh.engine("one", range(1000))
    kept = text("asked for again and again")
    mesh.note(kept, blocks(10))
    for number in range(200):
        mesh.note(text(f"prompt {number}"), blocks(10))
        assert mesh.index.size_bytes <= 20_000 and mesh.holders(kept)
    assert not mesh.holders(text("prompt 0")) and mesh.holders(text("prompt 199"))


def test_a_tenant_with_many_prompts_pushes_out_its_own_and_not_anothers() -> None:
    mesh = Mesh(budget_bytes=20_000)
    mesh.engine("one", range(1000))
    mesh.note(text("a small tenant's"), blocks(10), tenant="small")
    for number in range(200):
        mesh.note(text(f"prompt {number}"), blocks(10), tenant="big")
    assert mesh.holders(text("a small tenant's"), tenant="small")


def test_the_count_of_bytes_comes_back_to_nothing_after_any_mixture_of_prompts() -> None:
    draws = random.Random(7)
    index = PrefixIndex(budget_bytes=30_000)
    for _ in range(2_000):
        turns = [("user", str(draws.randrange(3))) for _ in range(draws.randrange(1, 8))]
        index.note(draws.choice([b"a", b"b"]), breakpoints(request(*turns)), blocks(draws.randrange(1, 40)))
        assert 0 <= index.size_bytes <= 30_000
    while index.size_bytes:
        index._make_room()
    assert not index._shelves


@pytest.mark.parametrize(
    ("noted", "field"),
    [
        (blocks(0), "block_hashes"),
        (blocks(513), "block_hashes"),
        (PromptBlocks(hashes=[1], block_tokens=0, prompt_tokens=5), "block_tokens"),
        (PromptBlocks(hashes=[1], block_tokens=-1, prompt_tokens=5), "block_tokens"),
        (PromptBlocks(hashes=[1, 2], block_tokens=16, prompt_tokens=31), "prompt_tokens"),
    ],
)
def test_a_bad_note_is_refused_with_the_field(noted: PromptBlocks, field: str) -> None:
    mesh = Mesh()
    with pytest.raises(InvalidRequest) as refused:
        mesh.note(request(HI), noted)
    assert refused.value.field == field


def test_forged_marks_only_reach_ones_own_hints() -> None:
    mesh = Mesh()
    mesh.engine("one", range(10))
    marks = mesh.placement.hint("a", request(HI)).marks
    mesh.placement.note("b", marks, blocks(10))
    assert mesh.holders(request(HI), tenant="a") == []
    assert mesh.placement.hint("b", request(HI)).holders == (Holder(instance_id="one", resident_tokens=160),)
