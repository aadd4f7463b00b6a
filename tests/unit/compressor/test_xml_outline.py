"""XML as an outline: what is read back is what was written, and what can't be is left alone."""

import re
import xml.etree.ElementTree as ET
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.compressor.shield import shield
from services.compressor.stages.xml_outline import HEAD, XmlOutline, expanded
from tests.support.growth import assert_time_grows_with_length


def outline(text: str, protect: tuple[str, ...] = ()) -> str:
    return XmlOutline().rewrite(text, shield(text, protect=protect, frozen_chars=0)).text


def values(xml: str):
    builder = ET.TreeBuilder(insert_comments=True, insert_pis=True)
    return _values(ET.fromstring(xml, ET.XMLParser(target=builder)))


def _values(element: ET.Element):
    """Name, attributes, text and children; white space between children is layout."""
    text = element.text or ""
    children = [(_values(child), (child.tail or "") if (child.tail or "").strip() else "") for child in element]
    return element.tag, dict(element.attrib), "" if len(element) and not text.strip() else text, children


PEOPLE = """<?xml version="1.0"?>
<people>
  <group kind="staff" open="yes">
    <name>First floor</name>
    <size>3</size>
  </group>
  <person active="Y"><first>Ann</first><last>B|b</last><born><year>1990</year><month>02</month></born></person>
  <person active="Y"><first>Bo</first><last>C</last></person>
  <person active="Y"><first>Di, D</first><last>E</last><born><year>1991</year><month>11</month></born></person>
  <link><id>11</id></link>
  <link><id>12</id></link>
  <note>One &lt; two, <b>bold</b>: see below.</note>
</people>
"""


def test_an_outline_names_each_thing_once():
    assert outline(PEOPLE) == (
        f"{HEAD}\n"
        '<?xml version="1.0"?>\n'
        "people\n"
        ' group @kind=staff @open=yes name="First floor" size=3\n'
        " person table @active=Y|first|last|born/year|born/month\n"
        '  Ann|"B|b"|1990|02\n'
        "  Bo|C||\n"
        "  Di, D|E|1991|11\n"
        ' link/id=[11,12] note="One &lt; two, <b>bold</b>: see below."\n'
    )


def test_an_outline_is_read_back_between_other_text():
    text = f"Before:\n{PEOPLE}\nAfter it.\n<a><b><c>1</c></b><b><c>2</c></b><b><c>3</c></b></a>{'x' * 3}\n"
    assert values(expanded(outline(text)).partition("Before:\n")[2].partition("\nAfter")[0]) == values(PEOPLE)
    assert expanded(outline(text)).endswith("\nAfter it.\n" + text.partition("After it.\n")[2])


def test_windows_line_ends_stay_behind_the_block():
    after = expanded(outline("A\r\n" + PEOPLE.replace("\n", "\r\n") + "B\r\n"))
    assert after.startswith("A\r\n<?xml") and after.endswith("</people>\r\nB\r\n")


@pytest.mark.parametrize("text", [PEOPLE + " indented", PEOPLE.strip() + " more", f"{HEAD}\n{PEOPLE}"])
def test_a_block_whose_end_would_be_in_doubt_stays_xml(text):
    assert outline(text) == text


def test_xml_in_a_fence_that_says_so_stays_xml():
    assert outline(f"```xml\n{PEOPLE}```\n") == f"```xml\n{PEOPLE}```\n"


@pytest.mark.parametrize("marked", ["<first>Ann", "First floor", 'kind="staff"', "One &lt; two"])
def test_marked_strings_survive(marked):
    assert marked in outline(PEOPLE, protect=(marked,))


names = st.sampled_from(["a", "b", "c-d", "n:e", "_f.1"])
texts = st.text(max_size=12).map(lambda text: re.sub(r"[^\t\n\x20-\ud7ff\ue000-\ufffd]", "", text)) | st.sampled_from(
    [
        "",
        " ",
        "a b",
        "x: y",
        "[1,2]",
        '"q"',
        "a|b",
        "k=v",
        "@a",
        "table x",
        "שלום עולם",
        "日本語",
        "a\nb",
        "1:",
        "a,b",
        "\\n",
    ]
)


@st.composite
def elements(draw, depth=0):
    name = draw(names)
    attributes = "".join(f" {key}={quoteattr(draw(texts))}" for key in draw(st.lists(names, unique=True, max_size=2)))
    kind = draw(st.sampled_from(["text", "children", "same", "mixed"])) if depth < 3 else "text"
    if kind == "text":
        return f"<{name}{attributes}>{escape(draw(texts))}</{name}>"
    if kind == "same":
        child = draw(names)
        more = st.sampled_from(["", "<b/>", '<b k="1">2</b>'])
        count = draw(st.integers(2, 5))
        inner = "".join(f"<{child}><a>{escape(draw(texts))}</a>{draw(more)}</{child}>" for _ in range(count))
        return f"<{name}{attributes}>{inner}</{name}>"
    between = draw(st.sampled_from(["", "\n", "\n  "])) if kind == "children" else draw(st.sampled_from(["", " t "]))
    parts = draw(
        st.lists(elements(depth + 1) | st.sampled_from(["<!-- c -->", "<?p i?>", "<![CDATA[<]]>"]), max_size=4)
    )
    return f"<{name}{attributes}>{between}{between.join([*parts, ''])}</{name}>"


@given(elements())
@settings(max_examples=300, deadline=None)
def test_any_xml_is_read_back_with_equal_values(element):
    xml = f'<r xmlns:n="u">\n{element}\n{element}\n{element}\n</r>'
    after = outline(xml)
    assert len(after) <= len(xml)
    assert values(expanded(after)) == values(xml)


@given(st.text(alphabet='<>/ab"= \n![]|@:,1', max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_text_crashes_or_gets_longer(text):
    after = outline(text)
    assert len(after) <= len(text)
    assert after != text or expanded(text) == text


@pytest.mark.parametrize(
    "inner",
    [
        "<a>1</a><b>2</b>",
        "<a x='1'/><b y='2'/>",
        "<a><b>1</b></a>",
        "<a><b>1</b><c/></a>",
        "".join(f"<k{i}>1</k{i}>" for i in range(500)),
        "<a><b><c><d><e>1</e></d></c></b></a>",
        "<a><b>1</b><b>2</b></a>",
    ],
)
def test_time_grows_with_length(inner):
    assert_time_grows_with_length(outline, lambda size: f"<r>{inner * (size // len(inner))}</r>", 400_000)


def test_deep_nesting_is_left_alone():
    text = "<a>\n" * 200 + "</a>\n" * 200
    assert outline(text.strip()) == text.strip()
