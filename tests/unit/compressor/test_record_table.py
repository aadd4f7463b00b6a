"""Tables and lists of records: exact on the way back, one line a row, and never where they would mislead."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.compressor.shield import shield
from services.compressor.stages.json_minify import minified
from services.compressor.stages.record_table import RecordTable, expanded, tabulated
from tests.support.growth import assert_time_grows_with_length


def compact(value) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def test_what_all_rows_hold_stands_in_the_head():
    rows = [{"id": i, "kind": "a b", "live": True, "tags": []} for i in range(4)]
    assert tabulated(compact(rows)) == "table[id|kind=a b|live=true|tags=[]\n0\n1\n2\n3]"


def test_records_inside_become_columns_and_gaps_stay_empty():
    rows = [
        {"id": i, "user": {"name": f"n{i}", "mail.to": "x"}, **({"end": f"e{i}"} if i % 2 else {})} for i in range(6)
    ]
    assert tabulated(compact(rows)) == (
        'table[id|user.name|user."mail.to"=x|end\n0|n0|\n1|n1|e1\n2|n2|\n3|n3|e3\n4|n4|\n5|n5|e5]'
    )


WIDE = [{**{f"k{k}": False for k in range(20)}, "id": i, "user": {"name": f"n{i}", "ok": i != 3}} for i in range(6)]


def test_wide_records_state_their_usual_values_once():
    rows = [{**row, "many": list(range(i))} for i, row in enumerate(WIDE)]
    after = tabulated(compact([{**row, **{f"v{k}": i * (k + 1) for k in range(30)}} for i, row in enumerate(rows)]))
    head, first, *_ = after.split("\n")
    assert head.startswith('list[usual {"k0":false,') and '"id":_,"user":{"name":_,"ok":true},"many":_' in head
    assert first.startswith('{"id":0,"user":{"name":"n0"},"many":[],"v0":')


@pytest.mark.parametrize(
    "text", ['see table[a|b] in [{"a":1},{"a":2},{"a":3}]', 'list[usual x [{"a":1},{"a":2},{"a":3}]']
)
def test_a_text_that_holds_a_mark_is_left_alone(text):
    assert RecordTable().rewrite(text, shield(text, protect=(), frozen_chars=0)).text == text


def test_a_row_is_one_line():
    rows = [{"id": i, "parts": [{"n": n, "of": i} for n in range(4)]} for i in range(6)]
    assert all(line.count("table[") < 2 for line in tabulated(compact(rows)).split("\n"))
    assert not tabulated(compact(rows)).startswith("table[")


scalars = st.sampled_from(
    [None, True, 1, "", "a", "b|c", "1", "x.y", "k=v", "_", "t[", "[", "{", "\n", "\\", " s", "é日"]
)
names = st.sampled_from(["a", "b", "c", "a.b", "=", "x y", "_", "", "|", '"'])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def alike(draw):
    shape = draw(st.lists(names, min_size=1, max_size=6, unique=True))
    inner = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    rows = []
    for _ in range(draw(st.integers(3, 8))):
        row = {name: draw(st.just("same") | values) for name in shape if draw(st.integers(0, 5))}
        rows.append({**row, "in": {name: draw(scalars) for name in inner}, **{f"d{i}": 0 for i in range(5)}})
    return rows


@given(alike() | st.lists(values, max_size=5), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_json_is_read_back_to_the_character(value, is_nested):
    text = compact({"items": value, "again": [value, value, value]} if is_nested else value)
    after = RecordTable().rewrite(text, shield(text, protect=(), frozen_chars=0)).text
    assert len(after) <= len(text)
    assert after == text or expanded(after) == text


@given(st.text(alphabet='table[|usi "{}]=\n_1,:.', max_size=60))
@settings(max_examples=200, deadline=None)
def test_reading_back_never_fails(text):
    for start in ("table[", "list[usual ", 'table[a|b="', 'list[usual {"a":_}\n'):
        assert isinstance(expanded(start + text), str)


@pytest.mark.parametrize(
    "item",
    [
        '{"a":%d,"b":"x"}',
        '{"a":%d,"b":{"c":[{"d":1},{"d":2},{"d":3}]}}',
        '{"a":[{"b":[{"c":[{"d":%d},{"d":2},{"d":3}]}]}]}',
        '{"k%d":1}',
    ],
)
def test_time_grows_with_length(item):
    def text_of(size: int) -> str:
        return "[" + ",".join(item % i for i in range(size // len(item))) + "]"

    assert_time_grows_with_length(tabulated, text_of, 400_000)


def test_nesting_of_arrays_of_records_costs_no_more_than_its_length():
    text = '{"a":1}'
    for _ in range(30):
        text = f'[{{"a":{text},"b":1}},{{"a":1,"b":1}},{{"a":2,"b":1}}]'
    started_at = time.thread_time()
    assert expanded(tabulated(text)) == minified(text)
    assert time.thread_time() - started_at < 1


def test_json_nested_deeper_than_people_write_it_stays_json():
    text = "[" * 90 + '[{"a":1},{"a":2},{"a":3}]' + "]" * 90
    assert tabulated(text) == text
