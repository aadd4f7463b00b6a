"""Where texts may be cut: between records, never inside them, and not at all where lines need each other."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.compressor.selection.segments import Kind, segments
from services.compressor.selection.stretches import Shape, stretches

RECORDS = [{"id": number, "note": "a, [b] {c}", "more": [number, {"x": "]"}]} for number in range(4)]


def cut(text: str) -> list[tuple[str, Shape]]:
    return [(text[start:end], shape) for start, end, shape in stretches(text)]


def pieces(text: str, kind: Kind) -> list[str]:
    return [text[one.start : one.end] for one in segments(text) if one.kind is kind]


def test_an_array_is_cut_between_its_elements():
    text = json.dumps(RECORDS)
    found = [piece.rstrip(",]").strip() for piece in pieces(text, Kind.RECORD)]
    assert [json.loads(one) for one in found[:-1]] == RECORDS[:-1]
    assert pieces(text, Kind.HEADING) == ["["]


def test_an_array_inside_an_object_is_cut_and_what_follows_it_stays_apart():
    text = json.dumps({"total": 4, "items": RECORDS, "next": "a-token-that-is-long"})
    assert pieces(text, Kind.HEADING) == ['{"total": 4, "items": [']
    assert pieces(text, Kind.RECORD)[-1] == '], "next": "a-token-that-is-long"}'


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"settings": {"a": [1, 2, 3] * 10}}),
        json.dumps(list(range(60))),
        "Log of 3 lines by 1 templates; rows: template|end:\nA=<t> up\n<t>=2024-01-01 *\nA|12:00:01\nA|2\n",
        "XML as outline: indented = inside\nroot\n item table @id|name\n  0|Bo\n  1|Al\n",
        "```python\nfirst()\n\nsecond()\n```\n",
    ],
)
def test_what_needs_all_its_lines_is_never_cut(text):
    assert cut(text) == [(text, Shape.WHOLE)]


def test_rows_go_under_the_columns_that_name_their_values():
    text = "Orders:\ntable[id|name\n1|Ann\n2|Bo]\n\nWhich is Bo's?"
    found = segments(text)
    rows = [one for one in found if one.kind is Kind.RECORD]
    assert [text[one.start : one.end].strip() for one in rows] == ["1|Ann", "2|Bo]"]
    assert {text[found[one.heading].start : found[one.heading].end] for one in rows} == {"table[id|name\n"}
    assert found[-1].kind is Kind.SENTENCE


def test_json_that_can_not_be_read_is_lines():
    assert {shape for _, shape in cut('[{"a": 1}, {"a":\nand so on')} == {Shape.LINE}


@given(st.text(alphabet='ab .\n`[]{}",:|1灯', max_size=200), st.sampled_from(["", "table[a|b\n", "```\n", '[{"a":1},']))
def test_stretches_cover_any_text_in_order(text, head):
    whole = head + text
    assert "".join(piece for piece, _ in cut(whole)) == whole
