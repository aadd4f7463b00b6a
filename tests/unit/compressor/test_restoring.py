"""All lossless stages together: whatever forms one text holds, each comes back with equal values."""

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.compressor.app import lossless_stages
from services.compressor.shield import shield
from services.compressor.stages.restoring import restored


def all_stages(text: str) -> str:
    for stage in lossless_stages():
        text = stage.rewrite(text, shield(text, protect=(), frozen_chars=0)).text
    return text


words = st.sampled_from(
    ["a", "b c", "שלום", "日本語", "é", "x|y", "1", "table", "[x]", "k=v", "a: b", "&amp;", "<t>", "\\"]
)
rows = st.lists(st.fixed_dictionaries({"id": st.integers(0, 99), "on": st.booleans(), "name": words}), max_size=6)
json_texts = rows.map(lambda value: json.dumps({"rows": value}, indent=2, ensure_ascii=False))


@st.composite
def xml_texts(draw):
    def safe(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;")

    items = "".join(
        f'\n  <item n="{i}">\n    <v>{safe(draw(words))}</v>\n  </item>' for i in range(draw(st.integers(0, 5)))
    )
    return f"<list>{items}\n  <note>{safe(draw(words))}</note>\n</list>"


@st.composite
def log_texts(draw):
    lines = draw(st.lists(st.tuples(st.integers(0, 59), words, st.integers(0, 9)), min_size=8, max_size=20))
    return "\n".join(f"2024-05-01 10:00:{second:02d} INFO {word} took {ms} ms" for second, word, ms in lines)


def is_equal(before: str, after: str) -> bool:
    if before.startswith("{"):
        return json.loads(before) == json.loads(after)
    if before.startswith("<list"):
        return elements(ET.fromstring(before)) == elements(ET.fromstring(after))
    return before == after


def elements(element: ET.Element):
    return element.tag, dict(element.attrib), (element.text or "").strip("\n "), [elements(child) for child in element]


@given(st.lists(json_texts | xml_texts() | log_texts() | words, min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_each_form_in_a_text_comes_back(blocks):
    between = "\n\n== {} ==\n\n"
    text = "".join(block + between.format(i) for i, block in enumerate(blocks))
    after = all_stages(text)
    assert len(after) <= len(text)
    rest = restored(after)
    for i, block in enumerate(blocks):
        piece, _, rest = rest.partition(between.format(i))
        assert is_equal(block, piece)
    assert rest == ""


BOMB = "<!DOCTYPE a [<!ENTITY b 'c'><!ENTITY d '&b;&b;&b;&b;'>]>\n<a>\n  <e>&d;&d;</e>\n  <e>&d;</e>\n</a>"


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "[" * 5_000,
        '{"a":' * 3_000 + "1" + "}" * 3_000,
        "<a>\n" * 3_000,
        "<a>\n" * 300 + "</a>\n" * 299 + "</a>",
        "\ufeff{'a': 1}",
        "\x00\x01\x02\n" * 50,
        "10:00:00 \x00\x1b[31m {\n" * 7,
    ],
)
def test_bad_input_passes_untouched(text):
    assert all_stages(text) == text
    assert restored(text) == text


@given(st.text(max_size=300) | st.text(alphabet='{}[]":,\\ \n\t<>/=|tableis1', max_size=200))
@settings(max_examples=200, deadline=None)
def test_nothing_crashes_and_nothing_gets_longer(text):
    after = all_stages(text)
    assert len(after) <= len(text)
    assert isinstance(restored(after), str)
