"""Rules of services.inference.stop_strings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.stop_strings import StopStrings


def screen(stops: list[str], parts: list[str]) -> tuple[list[str], str]:
    stop_strings, shown = StopStrings(stops), []
    for part in parts:
        screened = stop_strings.add(part)
        shown.append(screened.text)
        if screened.matched:
            return shown, screened.matched
    shown.append(stop_strings.finish())
    return shown, ""


@pytest.mark.parametrize(
    ("stops", "parts", "shown", "matched"),
    [
        ([], ["any ", "text"], ["any ", "text", ""], ""),
        (["END"], ["a END b"], ["a "], "END"),
        (["END"], ["a E", "N", "D b"], ["a ", "", ""], "END"),
        (["END"], ["a E", "N", "x"], ["a ", "", "ENx", ""], ""),
        (["END"], ["a EN"], ["a ", "EN"], ""),
        (["aab"], ["aa", "ab"], ["", "a"], "aab"),
        (["\n\n", "stop"], ["x\n", "\ny"], ["x", ""], "\n\n"),
        (["好"], ["你", "好"], ["你", ""], "好"),
        (["abc", "b"], ["abc"], ["a"], "b"),
        (["b", "ab"], ["ab"], [""], "ab"),
    ],
)
def test_answer_ends_before_the_stop_string(stops: list[str], parts: list[str], shown: list[str], matched: str) -> None:
    assert screen(stops, parts) == (shown, matched)


@given(
    stops=st.lists(st.text(alphabet="ab", min_size=1, max_size=3), max_size=3),
    parts=st.lists(st.text(alphabet="abc", max_size=4), max_size=10),
)
def test_how_text_is_cut_into_tokens_changes_nothing(stops: list[str], parts: list[str]) -> None:
    shown, matched = screen(stops, parts)
    shown_whole, matched_whole = screen(stops, ["".join(parts)])
    assert ("".join(shown), matched) == ("".join(shown_whole), matched_whole)


@given(
    stop=st.text(alphabet="ab", min_size=1, max_size=4),
    parts=st.lists(st.text(alphabet="abc", max_size=4), max_size=10),
)
def test_only_a_possible_head_of_a_stop_string_is_held_back(stop: str, parts: list[str]) -> None:
    stop_strings, fed, shown = StopStrings([stop]), "", ""
    for part in parts:
        fed += part
        screened = stop_strings.add(part)
        shown += screened.text
        if screened.matched:
            assert fed.startswith(shown + stop)
            return
        assert stop.startswith(fed[len(shown) :]) and fed[len(shown) :] != stop
