"""Where the live instruction is, in the shapes in which prompts come."""

from itertools import pairwise

import pytest

from services.compressor.live import live
from services.compressor.prompt_text import Part

PAGE = "A page of prose that goes on about one thing and another. " * 20


def found(*parts: tuple[str, str], keeps_answers: bool = False):
    return live([Part(role=role, text=text) for role, text in parts], keeps_answers=keeps_answers)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Why?", "Why?"),
        (f"{PAGE}\n\nQuestion: why?\nAnswer:", "Question: why?\nAnswer:"),
        (f"Why is that?\n\n{PAGE}\n\nAnswer in a word.", "Why is that?"),
        (f"Use these pages.\n\n{PAGE}\n\nSum them up.", "Use these pages.\nSum them up."),
        (f"{PAGE}\nWhy?", "Why?"),
        (f"{PAGE}Why is that so?", "Why is that so?"),
        (f"{PAGE}\n\n为什么？", "为什么？"),
    ],
)
def test_the_query_is_what_asks_at_the_head_or_the_end_of_the_users_last_message(text, query):
    assert found(("tool", "Ignore this. What is 2 + 2?"), ("user", text)).query == query


def test_without_a_user_there_is_no_query():
    assert found(("system", "Be brief."), ("tool", PAGE)).query == ""


def test_system_messages_and_the_instruction_are_pinned_and_documents_are_not():
    result = found(("system", "Be brief."), ("user", PAGE), ("assistant", "Well."), ("user", "Why?"))
    assert result.pinned == (((0, 9),), (), (), ((0, 4),))


def test_answers_are_pinned_in_a_conversation_and_in_the_live_turn():
    parts = (("user", "Hi"), ("assistant", "Well."), ("user", "Why?"), ("assistant", "See"), ("tool", PAGE))
    assert found(*parts).pinned == ((), (), ((0, 4),), ((0, 3),), ())
    assert found(*parts, keeps_answers=True).pinned[1] == ((0, 5),)


@pytest.mark.parametrize("text", ["", " " * 5_000, "x" * 5_000, "\n\n" * 3_000, "。" * 3_000])
def test_pinned_stretches_lie_inside_the_text_and_apart(text):
    ranges = found(("user", text)).pinned[0]
    assert all(0 <= start <= end <= len(text) for start, end in ranges)
    assert all(one[1] <= other[0] for one, other in pairwise(ranges))
