"""When two answers count as the same."""

from dataclasses import replace

import pytest

from services.cache.semantic.equivalence import AnswerText, answer_print, same_answer
from tests.support.semantic import unit


def printed(text, angle=None, tool_calls=""):
    found = answer_print(AnswerText(text=text, tool_calls=tool_calls))
    return found if angle is None else replace(found, vector=unit(angle))


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (printed("Paris."), printed("  Paris \n"), True),
        (printed("Paris"), printed("Rome"), False),
        (printed("It opens at nine in the morning", 0.0), printed("In the morning, it opens at nine", 1.5), False),
        (printed("The shop opens early", 0.0), printed("The shop will open early", 0.1), True),
        (printed("The shop opens early", 0.0), printed("The shop will open early"), False),
        (printed("It costs 5 dollars", 0.0), printed("It costs 6 dollars", 0.0), False),
        (printed("You may park here", 0.0), printed("You may not park here", 0.0), False),
        (printed("Ask Ann about it", 0.0), printed("Ask Bob about it", 0.0), False),
        (printed("", tool_calls="[a]"), printed("", tool_calls="[a]"), True),
        (printed("", tool_calls="[a]"), printed("", tool_calls="[b]"), False),
    ],
)
def test_answers_are_the_same_only_if_either_could_be_given_for_both(a, b, same):
    assert same_answer(a, b) is same
    assert same_answer(b, a) is same


def test_answers_with_tool_calls_or_of_great_length_are_compared_to_the_letter_only():
    assert printed("text", tool_calls="[a]").text == ""
    assert printed("x" * 5000).text == ""
