"""Which tools a question keeps: whole ones, and never fewer than it may need."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.compressor.prompt_text import TOOL_SCHEMA, Part
from services.compressor.selection.selection import Selection
from services.compressor.selection.tool_schemas import schema_of
from services.compressor.stages.record_table import RecordTable
from tests.unit.compressor.ordering import CharacterCounter, order, pipeline
from tests.unit.compressor.selection.test_selection import a_task, kept

COUNTER = CharacterCounter()
QUESTION = "What will the weather be in Oslo tomorrow?"


def a_tool(name: str, description: str, *parameters: str) -> dict:
    properties = {one: {"type": "string", "description": f"The {one} that is meant."} for one in parameters}
    return {"name": name, "description": description, "parameters": {"type": "object", "properties": properties}}


WEATHER = a_tool("get_weather", "Forecast of the weather for a city.", "city", "day")
OTHERS = [
    a_tool("send_mail", "Sends a letter to somebody.", "recipient", "subject"),
    a_tool("book_table", "Reserves a table at a restaurant.", "restaurant", "guests"),
    a_tool("play_song", "Plays music in the living room.", "title", "artist"),
    a_tool("transfer_money", "Moves funds between two accounts.", "account", "amount"),
]
TOOLS = [*OTHERS[:2], WEATHER, *OTHERS[2:]]


def written(tools: list[dict]) -> str:
    return json.dumps(tools, separators=(",", ":"))


def chosen(text: str, query: str = QUESTION, *, budget: int = 60, **changes) -> str:
    return kept(Selection(None).select(a_task(("tool", text), query=query, budget=budget, **changes)))


def names_in(text: str) -> list[str]:
    return [one["name"] for one in TOOLS if one["name"] in text]


def test_the_tool_that_the_question_needs_stays_whole_and_the_others_go_whole():
    assert chosen(written(TOOLS)) == f"[{written([WEATHER])[1:-1]},"


def test_a_table_of_tools_keeps_its_columns_and_the_row_that_is_needed():
    table = RecordTable().rewrite(json.dumps(TOOLS), SHIELD).text
    assert table.startswith("table[")
    result = chosen(table)
    assert result.startswith("table[name|description|")
    assert names_in(result) == ["get_weather"]


SHIELD = a_task(("tool", "x"), query="", budget=1).shields[0]
WRAPPED = [{"type": "function", "function": one} for one in TOOLS]
OTHER_KEYS = [{"name": o["name"], "description": o["description"], "input_schema": o["parameters"]} for o in TOOLS]


@pytest.mark.parametrize("tools", [WRAPPED, OTHER_KEYS])
def test_schemas_are_known_in_the_spellings_of_all_vendors(tools):
    assert names_in(chosen(json.dumps(tools))) == ["get_weather"]


def test_no_tool_goes_where_none_answers_to_the_question_better_than_another():
    assert names_in(chosen(written(TOOLS), "오늘 뉴스를 찾아줘", budget=5)) == [one["name"] for one in TOOLS]


def test_only_as_many_tools_go_as_the_budget_asks_for():
    budget = len(written(TOOLS)) // 4 - 10
    assert len(names_in(chosen(written(TOOLS), budget=budget))) == len(TOOLS) - 1


def test_a_tool_that_the_question_names_stays():
    assert "play_song" in chosen(written(TOOLS), f"{QUESTION} Then call play_song.")


def test_a_tool_that_the_caller_protects_stays():
    assert "book_table" in chosen(written(TOOLS), protect=("book_table",))


def test_a_tool_that_the_conversation_has_called_stays():
    task = a_task(("tool", written(TOOLS)), ("assistant", "I will write."), query=QUESTION, budget=60)
    called = Part(role="assistant", text="I will write.", calls=("send_mail",))
    result = kept(Selection(None).select(replace(task, parts=(task.parts[0], called))))
    assert names_in(result) == ["send_mail", "get_weather"]


def schemas(*, question: str = QUESTION, **changes):
    parts = [(TOOL_SCHEMA, json.dumps(one)) for one in TOOLS]
    return order(*parts, ("user", question), target_ratio=0.3, **changes)


async def test_tools_that_come_beside_the_messages_go_without_a_marker():
    outcome = await pipeline(Selection(None)).compress(schemas(), COUNTER)
    assert [text for text in outcome.texts if text] == [json.dumps(WEATHER), QUESTION]
    assert outcome.left_out[0] == (json.dumps(TOOLS[0]),)
    assert outcome.original_tokens == sum(len(json.dumps(one)) for one in TOOLS) + len(QUESTION)


@pytest.mark.parametrize("changes", [{"keeps_answers": True}, {"frozen_bytes": 10_000}, {"is_selective": False}])
async def test_tools_beside_the_messages_stay_in_a_conversation_under_a_frozen_prefix_and_in_lossless_mode(changes):
    asked = schemas(**changes)
    assert (await pipeline(Selection(None)).compress(asked, COUNTER)).texts == asked.original


async def test_a_schema_beside_the_messages_that_can_not_be_read_stays():
    broken = '{"name": "x", "parameters": {'
    asked = order((TOOL_SCHEMA, broken), *[(TOOL_SCHEMA, json.dumps(one)) for one in TOOLS], ("user", QUESTION))
    outcome = await pipeline(Selection(None)).compress(asked, COUNTER)
    assert outcome.texts[0] == broken
    assert "" in outcome.texts


@given(
    text=st.text(alphabet='{}[]",:nameprtsd|\n\\', max_size=80), head=st.sampled_from(["", "table[name|parameters\n"])
)
def test_whatever_stands_where_a_schema_might_is_read_or_is_none(text, head):
    assert schema_of(text, head) is None or schema_of(text, head).name is not None


@pytest.mark.parametrize("depth", [500, 100_000])
def test_deep_nesting_is_read_or_is_none(depth):
    inner = '{"properties":{"a":' * depth + "1" + "}}" * depth
    schema_of(f'{{"name":"x","parameters":{inner}}}')
