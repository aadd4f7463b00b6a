"""HTML with short white space: a parser of HTML sees the same before and after, and what is no HTML is left alone."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.compressor.shield import shield
from services.compressor.stages.html_blocks import find_html
from services.compressor.stages.html_compact import HtmlCompact
from services.compressor.stages.whitespace import Whitespace
from services.compressor.stages.xml_compact import XmlCompact
from tests.support.growth import assert_time_grows_with_length


def compact(text: str, protect: tuple[str, ...] = (), frozen: int = 0) -> str:
    return HtmlCompact().rewrite(text, shield(text, protect=protect, frozen_chars=frozen)).text


Event = tuple[object, ...]
VERBATIM = ("pre", "textarea", "script", "style", "code", "samp", "kbd", "listing", "xmp")


class Events(HTMLParser):
    """What a page says; white space counts as one blank where browsers show it so."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=False)
        self.events: list[Event] = []
        self._data: list[str] = []
        self._verbatim: list[str] = []
        self.feed(html)
        self.close()
        self._end_of_data()

    def _end_of_data(self) -> None:
        data = "".join(self._data)
        self._data.clear()
        if data:
            self.events.append(("data", data if self._verbatim else re.sub(r"[ \t\n\r\f]+", " ", data)))

    def _note(self, *event) -> None:
        self._end_of_data()
        self.events.append(event)

    def handle_starttag(self, tag, attrs):
        self._note("start", tag, tuple(attrs))
        styled = "white-space" in (self.get_starttag_text() or "").lower()
        if tag in self._verbatim[:1] or (not self._verbatim and (tag in VERBATIM or styled)):
            self._verbatim.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._note("empty", tag, tuple(attrs))

    def handle_endtag(self, tag):
        self._note("end", tag)
        if tag in self._verbatim[:1]:
            self._verbatim.pop()

    def handle_data(self, data):
        self._data.append(data)

    def handle_entityref(self, name):
        self._note("entity", name)

    def handle_charref(self, name):
        self._note("character", name)

    def handle_comment(self, data):
        self._note("comment", data)

    def handle_decl(self, decl):
        self._note("declaration", decl)

    def unknown_decl(self, data):
        self._note("unknown", data)

    def handle_pi(self, data):
        self._note("instruction", data)


def events(html: str) -> list[Event]:
    return Events(html).events


PAGE = """<!DOCTYPE html>
<html lang=en>
  <head>
    <meta charset="utf-8">
    <meta name="viewport"
          content="width=device-width, initial-scale=1">
    <title>Opening hours &ndash; City Library</title>
    <link rel="stylesheet" href="/static/site.css">
    <style>
      .hours td { padding: 2px 8px; }
      pre { white-space: pre-wrap }
    </style>
    <script>
      window.onload = function () {
        if (document.forms.length < 1 && !window.ready) {
          console.log("no  form");
        }
      };
    </script>
  </head>
  <body class="page page--hours">
    <!-- navigation:
         keep in step with the footer -->
    <nav>
      <ul>
        <li><a href="/">Home</a>
        <li><a href="/hours" aria-current=page>Opening hours</a>
        <li><a href="/contact">Contact</a>
      </ul>
    </nav>

    <main id="content">
      <h1>Opening hours</h1>

      <p>
        The library is open <b>six</b> <i>days</i> a week; on public
        holidays it stays closed.<br>
        Members may return books at any time.

      <p>
        <img src="/img/front.jpg" alt="The front
  door" width=640 height=480>
      </p>

      <table class="hours" summary="Opening hours">
        <thead>
          <tr>
            <th>Day
            <th>Opens
            <th>Closes
        </thead>
        <tbody>
          <tr>
            <td>Monday</td>
            <td>09:00</td>
            <td>18:00</td>
          </tr>
          <tr>
            <td>Tuesday</td>
            <td>10:00</td>
            <td>20:00</td>
          </tr>
          <tr>
            <td>Saturday
            <td>10:00
            <td>14:00
        </tbody>
      </table>

      <h2>Ask us</h2>

      <form action="/ask" method="post">
        <label for="question">Your question</label>
        <textarea id="question" name="question" rows=4>
  Dear library,
        </textarea>
        <select name="branch">
          <option value="1" selected>Main
          <option value="2">Harbour
        </select>
        <input type="checkbox" name="copy" checked>
        <button type="submit" disabled>Send</button>
      </form>

      <h2>For developers</h2>

      <p>
        Call the service like this:
      </p>

      <pre>
GET /hours?day=mon HTTP/1.1
  Host:    library.example
      </pre>

      <dl>
        <dt>Limit
        <dd>60 calls a minute
        <dt>Format
        <dd>JSON, see <code>Accept:  application/json</code>
      </dl>
    </main>

    <footer>
      <p>
        &copy; City Library, 12 Harbour Street
      </p>
    </footer>
  </body>
</html>
"""


def test_a_page_loses_a_fifth_of_its_characters_and_nothing_that_is_shown():
    after = compact(PAGE)
    assert len(after) < 0.8 * len(PAGE)
    assert events(after) == events(PAGE)
    assert compact(after) == after


def test_a_page_keeps_its_lines():
    assert '<ul>\n<li><a href="/">Home</a>\n<li><a href="/hours" aria-current=page>Opening hours</a>\n' in compact(PAGE)
    assert "open <b>six</b> <i>days</i> a week; on public\nholidays it stays closed.<br>\nMembers" in compact(PAGE)


@pytest.mark.parametrize(
    "start, end",
    [
        ("<script>", "</script>"),
        ("<style>", "</style>"),
        ("<pre>", "</pre>"),
        ("<textarea", "</textarea>"),
        ("<!-- nav", "-->"),
        ('alt="', '"'),
        ("<code>", "</code>"),
    ],
)
def test_where_white_space_is_text_it_stays(start, end):
    inside = PAGE.partition(start)[2].partition(end)[0]
    assert f"{start}{inside}{end}" in compact(PAGE)


@pytest.mark.parametrize(
    "html, expected",
    [
        ("<div>\n  <br>\n  <p>a\n  <p>b\n</div>", "<div>\n<br>\n<p>a\n<p>b\n</div>"),
        ("<DIV>\n  <BR>\n  <IMG SRC=a.png>\n</DIV>", "<DIV>\n<BR>\n<IMG SRC=a.png>\n</DIV>"),
        ("<div>\n  <b>a</b> <i>b</i>  <u>c</u><br>\n</div>", "<div>\n<b>a</b> <i>b</i> <u>c</u><br>\n</div>"),
        (
            "<ul>\n\t<li>a\n\t<li>b\n\t\t<ul>\n\t\t\t<li>c\n\t\t</ul>\n</ul>",
            "<ul>\n<li>a\n<li>b\n<ul>\n<li>c\n</ul>\n</ul>",
        ),
        ("<div\n    id=a\n    hidden\n><br  /></div  >", "<div id=a hidden><br/></div>"),
        ("<div><img src=a  /><img alt='b'  /><br></div>", "<div><img src=a /><img alt='b'/><br></div>"),
        ("<div title = 'a  b'>a &lt;  b < c<br></div>", "<div title = 'a  b'>a &lt; b < c<br></div>"),
        ("<p>\r\n  a<br>\r\n\r\n</p>", "<p>\na<br>\n</p>"),
        ("<p>  a\n<p>  b<br>  </p>", "<p> a\n<p> b<br> </p>"),
        ("  <p>  a\n  <p>  b<br>  </p>", "  <p> a\n  <p> b<br> </p>"),
        ("<div>a\xa0\xa0b<br>   c</div>", "<div>a\xa0\xa0b<br> c</div>"),
        ('<div>"a  b"  `c  d`<br>  </div>', '<div>"a  b" `c  d`<br> </div>'),
        ("<html>\n  <body>\n    <p>a\n", "<html>\n<body>\n<p>a\n"),
        ("<!doctype html>\n  <title>a</title>\n  <p>a", "<!doctype html>\n<title>a</title>\n<p>a"),
        ("a\n<p>b  <br></p> c  d\n<p>e  <br></p>", "a\n<p>b <br></p> c  d\n<p>e <br></p>"),
        ("```\n<ul>\n  <li>a\n</ul>\n```\nb  c", "```\n<ul>\n<li>a\n</ul>\n```\nb  c"),
    ],
)
def test_each_run_of_white_space_is_one_blank_or_line_end(html, expected):
    assert compact(html) == expected
    assert events(expected) == events(html)


@pytest.mark.parametrize(
    "inside",
    [
        "<pre>a\n\n  b<b>c  d</b>  e</pre>",
        "<code>a  <b>b  c</b></code>",
        '<p style="white-space: pre">a  b</p>',
        "<textarea>\n  a  b</textarea>",
        "<script>\n  a  <  b;  // </div>\n</script>",
        "<style>\n  a  >  b { }\n</style>",
        "<SCRIPT>\n  a  \n</SCRIPT>",
        "<!--  a\n  b  -->",
        "<a title='a\n\n  b' data-x=\"  \">a</a>",
    ],
)
def test_what_is_verbatim_stays_while_its_surroundings_shrink(inside):
    assert compact(f"<div>\n   <br>{inside}  <br>  </div>") == f"<div>\n<br>{inside} <br> </div>"


@pytest.mark.parametrize(
    "text",
    [
        "a  <  b and  <div  is open",
        "See  <br>  and  <p>  in HTML.",
        "Use `<div>` or\n`<p>  a<br>  </p>`.",
        "<div>\n  <br>\n  never closed",
        "<p>\n\nLong  prose.\n\nMore  prose.\n",
        "<a>\n  <b>\n</a>",
        "<pre>\n<div>\n  <br>\n</div>\n</pre>",
        "<script>\n<div>\n  <br>\n</div>\n</script>",
        "<!--\n<div>\n  <br>\n</div>\n-->",
        "```html\n<ul>\n  <li>a\n</ul>\n```",
        "```python\n<ul>\n  <li>a\n</ul>\n",
        "<div>\n  <br>\n```python\nx  =  1\n```\n</div>",
        "<!doctype html>\n<p>  a<br>\n```python\nx  =  1\n```\n",
        "```\n<!doctype html>\n<p>  a<br>\n```\n",
        "<details>\n<summary>a<br></summary>\n\n- b\n  - c\n</details>",
        "<div>\n<br>\n def f():\n     return 1\n</div>",
        "<div>\n<br>\na    b\nc    d\n</div>",
        " <div>\n   <br>\n-  <p>a\n+  <p>b\n </div>",
        "<div className={x}>\n  <br>\n</div>",
        "<div {...x}>\n  <br>\n</div>",
        "<ul>\n  <% for a in b %>\n  <li>a\n</ul>",
        "<ul>\n  <?php  foo();  ?>\n  <li>a\n</ul>",
        "<div>\n  see `<br>  <p>` here\n</div>",
        "<div>\n  <pre>\n</div>\n<p>  a<br>  </p>",
        "<div>\n  <p style='white-space: pre'>  a\n  <p>  b\n</div>",
        "<div>\n  <style>.a { white-space: pre-wrap }</style>\n<br></div>",
        "<div>\n  <!-- a -- > b  -->  <br>\n</div>",
        "<div>\n  <!--> b  -->  <br>\n</div>",
        "<div>\n  <script/>  <br>\n</div>",
        "<div>\n  <title>a<b></title>  <br>\n</div>",
        "<div>\n  <plaintext>  <br>\n</div>",
        "<div>\n  <p title='a\"' \">  <br>\n</div>",
        "<!DOCTYPE html [<!ENTITY a 'b'>]>\n<html>\n  <br>\n</html>",
    ],
)
def test_what_is_no_html_or_may_be_something_else_is_untouched(text):
    assert compact(text) == text


@pytest.mark.parametrize("xml", ["<div>\n  <p>a  b</p>\n</div>", "<html>\n  <body/>\n</html>"])
def test_well_formed_xml_is_left_to_its_own_stages(xml):
    assert compact(xml) == xml
    assert find_html(xml, shield(xml, protect=(), frozen_chars=0)) == ()


def test_a_broken_page_does_not_keep_the_next_document_from_being_read():
    broken = "<!doctype html>\n  <div title='>\n  <br>\n"
    assert compact(f"{broken}<p>  a<br>  </p>\n{PAGE}") == f"{broken}<p>  a<br>  </p>\n{compact(PAGE)}"


@pytest.mark.parametrize("marked", ["    <meta", "a week; on public\n        holidays", "</html>\nafter"])
def test_marked_strings_survive(marked):
    text = f"{PAGE}after"
    assert compact(text, protect=(marked,)) == text


def test_the_frozen_prefix_and_a_page_across_its_end_are_untouched():
    text = f"before\n{PAGE}"
    assert compact(text, frozen=7) == f"before\n{compact(PAGE)}"
    for frozen in range(8, len(text), 5):
        assert compact(text, frozen=frozen) == text


TAGS = """
<div> <p> </p> </div> <ul> <li> </li> </ul> <table> <tr> <td> </td> </table> <br> <br/> <b> </b> <pre> </pre> <code>
</code> <script> </script> <style> </style> <textarea> </textarea> <title> </title> <html> </html> <body> <svg> <path/>
</svg> <pre/> <a/href=b/> <p/>
"""
ODD = [
    "<!--",
    "-->",
    "--",
    "<?",
    "<",
    ">",
    '"',
    "'",
    "`",
    "```",
    "=",
    "/",
    "{",
    "</ script>",
    "\xa0",
]
SPACED = [
    '<a\n  href="x  y"  b = c  >',
    "<a href=x  />",
    "<a href='\n  '\t>",
    "<p style='white-space:pre'>",
    "<a b='c'd=e  >",
    "<br\t/>",
    "</script >",
    "<!-- a  b -->",
    "<div>\n",
]
BLANKS = [" ", "  ", "\n", "\n  ", "\r\n", "\r", "\t", "\f", "\n\n", "\x85", "\x0b"]
WORDS = ["a", "é", "&", "&amp;", "&#32;", "a < b", "1", "a\n   b"]
PIECES = st.sampled_from([*TAGS.split(), *SPACED, *WORDS]) | st.sampled_from(BLANKS)
PAGES = st.lists(PIECES | PIECES | PIECES | st.sampled_from(ODD), max_size=30).map("".join)


@given(
    st.sampled_from(["", "<!doctype html>\n", "<html>\n", "<div>\n", "x\n<p>  "]),
    PAGES,
    st.sampled_from(["", "</p>", "</div>", "</html>\n"]),
)
@settings(max_examples=400, deadline=None)
def test_any_html_says_the_same_in_as_many_characters_or_fewer(start, page, end):
    text = f"{start}{page}{end}"
    after = compact(text)
    assert len(after) <= len(text)
    assert events(after) == events(text)
    assert compact(after) == after


@given(st.text(max_size=200) | st.text(alphabet="<>/!-divpre=\"'`~ \n\t\r", max_size=200), st.integers(0, 60))
@settings(max_examples=200, deadline=None)
def test_no_text_crashes_or_gets_longer_or_loses_a_word(text, frozen):
    after = compact(text, frozen=frozen)
    assert len(after) <= len(text)
    assert after[:frozen] == text[:frozen]
    assert re.sub(r"[ \t\n\r\f]", "", after) == re.sub(r"[ \t\n\r\f]", "", text)


SHAPES = [
    "<",
    "<div>",
    "<div>\n",
    "<p>\n",
    "<div></div>\n",
    "<p>a<br>  \n",
    "<!--",
    "\n<!--",
    "<!doctype html>\n",
    "<!doctype html>\n<!--\n",
    "<html>\n<script>\n",
    "<ul>\n<li></a>",
    "<div a",
    "<div a='\n",
    "<div " + "a " * 50,
    "<script>",
    "<b>",
    "--  ",
    "- ",
    "<div>\n```\n",
    " \n<div>`\n",
    "<style>{",
    "\n \n",
]


@pytest.mark.parametrize("start", ["", "<div>\n", "<!doctype html>\n<style>", "<div>\n<!--"])
@pytest.mark.parametrize("shape", SHAPES)
def test_time_grows_with_length(start, shape):
    assert_time_grows_with_length(compact, lambda size: start + shape * (size // len(shape)), 200_000)


def test_the_stages_around_it_agree():
    text = f"Read this:\n{PAGE}\nWell?  \n"
    for stage in (XmlCompact(), HtmlCompact(), Whitespace()):
        text = stage.rewrite(text, shield(text, protect=(), frozen_chars=0)).text
    assert events(text.partition("\n")[2].partition("</html>")[0]) == events(PAGE.partition("</html>")[0])
