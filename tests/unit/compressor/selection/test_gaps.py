"""A run of whole turns has one marker, and what is sent still takes turns."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.common.v1 import common_pb2
from services.compressor.omission import MARKER
from services.compressor.prompt_proto import parts_of, with_texts
from services.compressor.prompt_text import Part
from services.compressor.selection.window import gaps
from services.compressor.thinning import with_markers
from tests.unit.compressor.ordering import FACT, FILLER, QUESTION, CharacterCounter, order, pipeline

U, A = "user", "assistant"


def turns(*roles: str) -> list[Part]:
    return [Part(role=role, text=f"{FILLER}{number}") for number, role in enumerate(roles)]


@pytest.mark.parametrize(
    ("roles", "left", "expected"),
    [
        ((U, A, U), [1, 1, 0], [[0], [1]]),
        ((U, A, U, A), [1, 1, 1, 0], [[0, 1, 2]]),
        ((U, A, U, A, U), [0, 1, 1, 0, 0], [[1], [2]]),
        ((U, A, U, A, U), [1, 0, 1, 0, 0], [[0], [2]]),
        ((U, A, "system", A, U), [1, 1, 1, 1, 0], [[0, 1], [3]]),
        ((U, "tool", "tool", U), [1, 1, 1, 0], [[0]]),
        ((U, A), [0, 0], []),
    ],
)
def test_turns_that_are_left_out_together_are_one_run(roles, left, expected):
    assert gaps(turns(*roles), [bool(one) for one in left]) == expected


def test_a_turn_that_calls_a_tool_is_in_no_run():
    parts = [*turns(U, A, U), Part(role=A, text=FILLER, calls=("search",)), *turns(U)]
    assert gaps(parts, [True] * 4 + [False]) == [[0, 1, 2]]


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_where_roles_alternate_those_that_are_sent_do_too(left):
    roles = [U if number % 2 == 0 else A for number in range(len(left) + 1)]
    unsent = {number for gap in gaps(turns(*roles), [*left, False]) for number in gap[1:]}
    sent = [role for number, role in enumerate(roles) if number not in unsent]
    assert all(one != next_one for one, next_one in itertools.pairwise(sent))
    assert all(left[number] for number in unsent)


def test_the_runs_one_marker_fetches_all_of_its_turns_with_who_said_them():
    parts = turns(U, A, U, A)
    runs = [[(part.text, False)] for part in parts[:3]] + [[(parts[3].text, True)]]
    found = with_markers(parts, runs, handle_of=lambda text: "h")
    assert [one.text for one in found] == ['[left out: expand("h")]', "", "", parts[3].text]
    assert found[0].handles == {"h": "\n".join(f"{part.role}: {part.text}" for part in parts[:3])}


CHAT = tuple(
    (role, FACT + FILLER * 3 if number == 9 else f"{FILLER * 4}{number}.")
    for number, role in enumerate([U, A] * 8)
)  # fmt: skip


async def test_a_chat_that_was_thinned_has_one_marker_a_run_and_no_empty_message():
    asked = order(*CHAT, (U, QUESTION), target_ratio=0.3)
    outcome = await pipeline().compress(asked, CharacterCounter())
    prompt = common_pb2.Prompt()
    for part in asked.parts:
        prompt.messages.messages.add(role=part.role, content=part.text)
    sent = with_texts(prompt, outcome.texts).messages.messages
    assert len(sent) < 8
    assert all(one.content for one in sent)
    assert [one.role for one in sent] == [(U, A)[number % 2] for number in range(len(sent))]
    assert sum(one.content == MARKER for one in sent) <= 4
    assert FACT in "".join(one.content for one in sent)


def test_a_message_that_never_had_a_text_is_sent():
    prompt = common_pb2.Prompt()
    call = prompt.messages.messages.add(role=A, content="")
    call.tool_calls.add(name="search", id="1")
    prompt.messages.messages.add(role=U, content="hello")
    assert with_texts(prompt, [part.text for part in parts_of(prompt)]) == prompt
