"""Loading as far as it is needed: an outline of what can be fetched, and a window over the last turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.compressor.prompt_text import Part
from services.compressor.selection.candidates import candidates
from services.compressor.selection.outline import outline
from services.compressor.selection.selection import Selection
from services.compressor.selection.window import recent_turns
from tests.unit.compressor.ordering import CharacterCounter, order, pipeline
from tests.unit.compressor.selection.test_selection import LIGHTHOUSE, WEATHER, a_task, kept

STORMS = WEATHER.replace("valley", "delta").replace("farmers", "sailors").replace("Nobody", "Few people")
PAGE = f"## Storms\n{STORMS}\n\n## Weather\n{WEATHER}\n\n## Coast\n{LIGHTHOUSE}\n"
QUESTION = "Who built the lighthouse of Karsk?"
COUNTER = CharacterCounter()


def outlined(room: int) -> str:
    """What stays beside the last section."""
    found = candidates(a_task(("tool", PAGE), query=QUESTION, budget=1))
    coast = {number for number, one in enumerate(found) if "Coast" in one.text or "lighthouse" in one.text}
    return "".join(found[number].text for number in sorted(outline(found, coast, room)))


def test_the_outline_is_the_headings_then_first_sentences_as_far_as_there_is_room():
    assert outlined(0) == ""
    assert outlined(32) == "## Storms\n## Weather\n"
    assert outlined(50) == f"## Storms\n{STORMS.partition('. ')[0]}. ## Weather\n"
    whole = outlined(1000)
    assert whole.count(". ") == 2
    assert "Coast" not in whole


def test_without_a_way_to_fetch_the_rest_nothing_is_spent_on_an_outline():
    task = a_task(("tool", PAGE), query=QUESTION, budget=25)
    assert kept(Selection(None).select(task)) == f"## Coast\n{LIGHTHOUSE}\n"


async def test_every_section_left_out_has_a_handle_of_its_own_under_its_heading():
    text = PAGE + "".join(f"\n\n## Log {n}\n{STORMS.replace('delta', f'bay {n}')}\n" for n in range(5))
    handles: dict[str, str] = {}

    def handle_of(left_out: str) -> str:
        return handles.setdefault(left_out, f"handle-{len(handles):09}")

    asked = order(("tool", text), ("user", QUESTION), target_ratio=0.4, handle_of=handle_of)
    outcome = await pipeline(Selection(None)).compress(asked, COUNTER)
    sent = outcome.texts[0]
    assert LIGHTHOUSE.strip() in sent
    assert sent.count("## ") > 1
    for handle, left_out in outcome.handles.items():
        sent = sent.replace(f'[left out: expand("{handle}")]', left_out)
    assert sent.split() == text.split()


TALK = (
    ("system", "Be brief."),
    ("user", WEATHER),
    ("assistant", STORMS),
    ("user", "Is the second tower older?"),
    ("assistant", "It is."),
)


def test_the_last_exchange_stays_though_it_shares_no_word_with_the_question():
    long = [("user", WEATHER.replace("valley", f"town {n}")) for n in range(40)]
    task = a_task(*TALK[:1], *long, *TALK[2:], ("user", QUESTION), query=QUESTION, budget=600)
    result = kept(Selection(None).select(task))
    assert "Is the second tower older?" in result
    assert "It is." in result


def parts_of(*turns: tuple[str, str]) -> list[Part]:
    return [Part(role=role, text=text) for role, text in turns]


def test_a_call_is_in_the_window_with_all_its_results_or_not_at_all():
    parts = parts_of(("user", "a"), ("assistant", "call"), ("tool", "r1"), ("tool", "r2"), ("user", "and now?"))
    assert recent_turns(parts, [1, 5, 5, 5, 1], 320) == {0, 1, 2, 3}
    assert recent_turns(parts, [1, 5, 5, 5, 1], 299) == set()


@pytest.mark.parametrize("turns", [(("tool", "page"), ("user", "why?")), (("user", "why?"),), ()])
def test_documents_before_a_first_question_are_no_window(turns):
    assert recent_turns(parts_of(*turns), [1] * len(turns), 10_000) == set()


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), st.integers(0, 40)), max_size=12))
def test_the_window_keeps_to_its_share_and_never_splits_a_call(drawn):
    parts = [Part(role=role, text="x") for role, _ in drawn]
    sizes = [size for _, size in drawn]
    found = recent_turns(parts, sizes, 500)
    assert sum(sizes[number] for number in found) <= 25
    for number in found:
        if parts[number].role == "tool" and number and parts[number - 1].role in ("tool", "assistant"):
            assert number - 1 in found
