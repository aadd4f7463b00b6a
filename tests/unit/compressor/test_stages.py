"""Each stage: values can be read back, protected text is untouched, nothing gets longer, nothing crashes."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.compressor.shield import shield
from services.compressor.stages import json_blocks
from services.compressor.stages.html_compact import HtmlCompact
from services.compressor.stages.json_blocks import find_json
from services.compressor.stages.json_minify import JsonMinify
from services.compressor.stages.record_table import RecordTable, expanded
from services.compressor.stages.whitespace import Whitespace
from services.compressor.stages.xml_compact import XmlCompact
from tests.support.growth import cpu_s

STAGES = [JsonMinify(), XmlCompact(), HtmlCompact(), Whitespace(), RecordTable()]


def rewrite(stage, text: str, protect: tuple[str, ...] = (), frozen: int = 0) -> str:
    return stage.rewrite(text, shield(text, protect=protect, frozen_chars=frozen)).text


def all_stages(text: str, protect: tuple[str, ...] = (), frozen: int = 0) -> str:
    for stage in STAGES:
        text = rewrite(stage, text, protect, frozen)
    return text


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["true", "1", "-0", "1e5", " a", "a|b", "[x]", 'q"q', "\\", "null", "NaN", "table[", "é", "\x85"])
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner, max_size=5),
    max_leaves=25,
)
keys = st.lists(st.text(max_size=5), min_size=1, max_size=4, unique=True)


@st.composite
def records(draw):
    names = draw(keys)
    return [
        dict(zip(names, row, strict=True))
        for row in draw(st.lists(st.lists(scalars, min_size=len(names), max_size=len(names)), min_size=1, max_size=8))
    ]


@given(json_values, st.integers(0, 4), st.booleans())
@settings(max_examples=100, deadline=None)
def test_json_keeps_equal_values_through_all_stages(value, indent, ensure_ascii):
    text = json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)
    after = all_stages(text)
    assert json.loads(expanded(after)) == value
    assert len(after) <= len(text)


@given(records(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_tables_can_be_read_back(value, is_nested):
    wrapped = {"items": value, "total": len(value)} if is_nested else value
    after = all_stages(json.dumps(wrapped, indent=2))
    assert json.loads(expanded(after)) == wrapped


def test_a_uniform_array_becomes_a_table_with_one_header():
    people = [{"id": 1, "name": "Ann"}, {"id": 2, "name": "B|b"}, {"id": 3, "name": "007"}]
    assert all_stages(json.dumps(people, indent=2)) == 'table[id|name\n1|Ann\n2|"B|b"\n3|"007"]'


@pytest.mark.parametrize(
    "array",
    [
        '[{"a":1,"b":[1]},{"a":2,"b":[2]},{"a":3,"b":[3]}]',
        '[{"a":1,"b":2},{"b":1,"a":2},{"a":1,"b":2}]',
        '[{"a":1,"a":2},{"a":1,"a":2},{"a":1,"a":2}]',
        '[{"a":1},{"a":2},{"a":3,"b":4}]',
        '[{"a":1},{"a":2}]',
        "[{},{},{}]",
    ],
)
def test_what_has_no_one_flat_shape_stays_json(array):
    assert rewrite(RecordTable(), array) == array


@pytest.mark.parametrize(
    "number", ["1.0", "1.10", "1e5", "1E+05", "-0", "-0.0", "123456789012345678901234567890", "0.1000"]
)
def test_numbers_keep_their_spelling(number):
    text = f'{{\n  "a": {number},\n  "b": [\n    {number}\n  ]\n}}'
    assert all_stages(text) == f'{{"a":{number},"b":[{number}]}}'
    rows = "[" + ",\n".join(f'{{"key": {number}}}' for _ in range(4)) + "]"
    assert all_stages(rows).count(number) == 4


def test_number_longer_than_the_parsers_limit_is_no_obstacle():
    assert all_stages('{ "a": ' + "9" * 10_000 + " }") == '{"a":' + "9" * 10_000 + "}"


def test_duplicate_keys_and_key_order_and_escapes_are_kept():
    assert all_stages('{ "b": 1, "a": "\\u00e9\\n", "b": 2 }') == '{"b":1,"a":"\\u00e9\\n","b":2}'


@pytest.mark.parametrize(
    "broken",
    [
        '{"a": 1, "b": ',
        '{"a": 1, "b": {"c": 1}',
        "{'a': 1}",
        '{"a": 1,}',
        '{"a": tru, "b": {"c": 1}}',
        '{ "a": 1 } }'.replace("{ ", '{ "x": , '),
        '[1, 2, {"a": 1},]',
        '{ "a" : 1   \n\n\n\n "b": 2 }',
        "<a>\n  <b>\n</a>",
        "<a>\n  <b></c>\n</a>  \n",
        "<a x=1>\n  <b></b>\n</a>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]>\n<a>\n  <b/>\n</a>",
    ],
)
def test_broken_json_and_xml_pass_untouched(broken):
    assert all_stages(broken) == broken


PROSE = [
    "See [1, 2] and [3] for x in [0, 1).",
    'Use `{ "a": 1 }` in your config.',
    'He said "{ "a": 1 }" to me.',
    'call({ "a": 1 }) and y[ 0 ]',
    '```python\nx = { "a": 1 }\n\n\n\n# end  \n```',
    "~~~\ndef f():   \n\n\n\n    return 1\n~~~",
    '```\nunclosed { "a": 1 }   \n\n\n\n',
    "a < b and c > d, List<String> x",
    "    indented   text stays  as it is",
    "1.  one\n2.  two\n\npara",
]


@pytest.mark.parametrize("prose", PROSE)
def test_prose_and_code_are_untouched(prose):
    assert all_stages(prose) == prose


def test_json_between_prose_and_in_data_fences_is_minified():
    text = 'Here: { "a": 1 }.\n```json\n{\n  "b": [1, 2]\n}\n```\nand\n```\n[ { "c": 1 } ]\n```\n'
    assert all_stages(text) == 'Here: {"a":1}.\n```json\n{"b":[1,2]}\n```\nand\n```\n[{"c":1}]\n```\n'


def test_json_lines_are_minified_one_by_one():
    assert all_stages('{ "a": 1 }\n{ "a": 2 }') == '{"a":1}\n{"a":2}'


def test_the_frozen_prefix_and_blocks_across_it_are_untouched():
    text = '{ "a": 1 }\n{ "b": 2 }\n{ "c": 3 }'
    for frozen in range(len(text) + 1):
        after = all_stages(text, frozen=frozen)
        assert after[:frozen] == text[:frozen]
    assert all_stages(text, frozen=15) == '{ "a": 1 }\n{ "b": 2 }\n{"c":3}'


def test_code_that_starts_in_the_frozen_prefix_stays_code():
    text = '```python\nx = 1\ny = { "a": 1 }  \n```'
    assert all_stages(text, frozen=14) == text


@pytest.mark.parametrize("marked", ['{ "a"', '"a": 1', ": 1 }", "here: {", "  \n"])
def test_marked_strings_survive(marked):
    text = 'here: { "a": 1 }  \n\n\n\n{ "b": 2 }'
    assert all_stages(text, protect=(marked,)).count(marked) == text.count(marked)


@given(
    st.text(alphabet='{}[]":, \n\t`ab1<>/|', max_size=80),
    st.lists(st.text(alphabet='{"a1: \n', min_size=1, max_size=4), max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_marked_strings_survive_anywhere(text, protect):
    after = all_stages(text, protect=tuple(protect))
    assert all(after.count(marked) >= text.count(marked) for marked in protect)


XML = """<?xml version="1.0"?>
<!-- people -->
<people>
  <person id="1">
    <name>Ann   B</name>
    <note>
    </note>
  </person>

  <empty/>
</people>
"""


def test_xml_loses_its_layout_and_nothing_else():
    assert all_stages(XML) == (
        '<?xml version="1.0"?><!-- people --><people><person id="1"><name>Ann   B</name><note>\n    </note></person>'
        "<empty/></people>\n"
    )


@pytest.mark.parametrize(
    "xml",
    [
        "<p>Hello <b>big</b>\n<i>world</i></p>",
        "<p>\n<b>Hello</b>\n<i>world</i>\n</p>",
        "<doc>\ntext\n</doc>",
        "<a xml:space='preserve'>\n<b/>\n</a>",
        "<a><pre>\n<b/>\n<c/>\n</pre></a>",
        "<a>\n<![CDATA[x]]>\n</a>",
        "<r><t>a <x/>\n<y/></t></r>",
        "<a> <b/> </a>",
    ],
)
def test_white_space_that_may_be_text_is_kept(xml):
    assert rewrite(XmlCompact(), xml) == xml


def test_an_element_seen_with_mixed_content_once_is_mixed_everywhere():
    xml = "<d><t>a <x/> b</t><t>\n<x/>\n<y/>\n</t></d>"
    assert rewrite(XmlCompact(), xml) == xml


def test_white_space_goes_at_line_ends_and_between_paragraphs_only():
    assert all_stages("a  b  \n\n\n\n  c\t\n   \n \nd") == "a  b\n\n  c\n\nd"
    assert all_stages("a \r\n\r\n\r\n\r\nb") == "a\r\n\r\nb"


SHAPES = [
    '{"',
    '{"a":',
    "[",
    "[[",
    "[1,\n",
    "[0 x]",
    "<a>",
    "<a>\n",
    "<!--",
    "<",
    '"',
    "`",
    "```\n",
    " ",
    "\n",
    " \n",
    "{ ",
    '[{"a":1},',
    "\\",
    "&a;",
    "<a/>\n",
    '"x',
    "|",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_repeated_shape_ends_in_time(shape):
    text = shape * (100_000 // len(shape))
    for stage in STAGES:
        assert len(rewrite(stage, text)) <= len(text)


@given(st.text(max_size=300) | st.text(alphabet='{}[]":,\\ \n\t`~<>/!-?ab1&;|é', max_size=200))
@settings(max_examples=150, deadline=None)
def test_no_text_crashes_a_stage_or_gets_longer(text):
    words = re.sub(r"\s", "", text)
    for stage in STAGES[:4]:
        after = rewrite(stage, text)
        assert len(after) <= len(text)
        assert re.sub(r"\s", "", after) == words
    assert len(all_stages(text)) <= len(text)


@given(st.text(alphabet='{}[]":, \n`<>/a1', max_size=120))
@settings(max_examples=150, deadline=None)
def test_a_second_pass_changes_nothing(text):
    once = all_stages(text)
    assert all_stages(once) == once


LINES = "It was the best of times, it was the worst of times, it was an age of wisdom.\n" * 24


@pytest.mark.parametrize(
    "text",
    ["many words " * 18_000, (LINES + "See [1] and [2, 13].\n") * 100],
    ids=["plain prose", "lines with citations"],
)
def test_prose_with_nothing_to_shorten_is_given_up_without_parsing_and_in_few_passes(text, monkeypatch):
    class Unwanted:
        def raw_decode(self, text: str) -> None:
            raise AssertionError(f"tried to read prose as JSON: {text[:40]!r}")

    monkeypatch.setattr(json_blocks, "_DECODER", Unwanted())

    def stages() -> None:
        assert all_stages(text) == text

    # In turns, so that both meet the same machine; finding all words is one pass, and takes as long or longer.
    rounds = [(cpu_s(stages), cpu_s(lambda: re.findall(r"\w+", text))) for _ in range(5)]
    assert min(own for own, _ in rounds) < 3 * min(words for _, words in rounds)


@pytest.mark.parametrize("text", ['[01] and {"a": 1', "[1, 2", "[1,]", "[1 2]", "[-1]x"])
def test_what_only_looks_like_a_citation_is_still_read_as_json(text):
    found = find_json(text, shield(text, protect=(), frozen_chars=0))
    assert bool(list(found.broken)) == (text != "[-1]x")
