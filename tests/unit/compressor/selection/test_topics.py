"""What a turn takes from the topic around it, and what stands for itself."""

import pytest

from services.compressor.selection.candidates import candidates
from services.compressor.selection.relevance import relevance
from services.compressor.selection.topics import by_topic, spread
from tests.unit.compressor.selection.test_selection import a_task

QUESTION = "What was said about the price of the remote?"
TOPIC = (114, 117, 123, 126)
ANSWERED, AWAY = 120, 5
SAID = "We shall see how it turns out in the end."


def scores_of(lead: str) -> list[float]:
    """Of 240 lines that begin like this, some of them about the price."""
    lines = [f"{lead.format(who)}{SAID} {n}\n" for n, who in enumerate(("Ann", "Ben", "Cid") * 80)]
    for place in TOPIC:
        lines[place] = f"{lead.format('Ann')}So the price of the remote is item {place}.\n"
    found = relevance(candidates(a_task(("tool", "".join(lines)), query=QUESTION, budget=1)), QUESTION, None)
    return [found.scores[number] for number in range(len(lines))]


def test_a_turn_within_its_topic_counts_more_though_it_shares_no_word_with_the_question():
    spoken, listed = scores_of("{}: "), scores_of("- ")
    for_topic, for_neighbours = (scores[ANSWERED] - scores[AWAY] for scores in (spoken, listed))
    assert for_topic > 3 * for_neighbours


def test_items_of_a_list_take_nothing_from_the_topic_around_them():
    scores = scores_of("- ")
    assert scores[TOPIC[0] - 15] == pytest.approx(scores[AWAY], abs=0.01)
    assert scores_of("{}: ")[TOPIC[0] - 15] > 0.1


def test_every_turn_has_a_score_and_windows_cover_all_of_them():
    asked: list[int] = []

    def score(groups):
        asked.extend(number for group in groups for number in group)
        return [float(len(group)) for group in groups]

    sizes = [1, 500, 3, 90, 200, 40, 7] * 9
    assert len(by_topic(range(len(sizes)), sizes, score)) == len(sizes)
    assert set(asked) == set(range(len(sizes)))


def test_no_turns_have_no_topic():
    assert by_topic([], [], lambda groups: [0.0] * len(groups)) == []


def test_what_is_spread_stays_between_the_least_and_the_most_and_fades_with_distance():
    values = spread([0.0] * 5 + [1.0] + [0.0] * 5, [10.0] * 11, 20.0)
    assert all(0.0 <= value <= 1.0 for value in values)
    assert values[5] > values[4] > values[3] > values[0] > 0.0
    assert values[4] == pytest.approx(values[6])
    assert spread([0.3] * 4, [1.0, 50.0, 2.0, 9.0], 7.0) == pytest.approx([0.3] * 4)
