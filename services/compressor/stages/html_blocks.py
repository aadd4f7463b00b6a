"""Where HTML that is no XML lies in a text, as its tokens: with end tags left out, void elements and bare attributes.

A block starts on a line of its own with a document or a block-level element and ends where that is closed. What
readers of HTML read in more than one way is not read, nor what never ends: then only a document type starts anew.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.compressor.shield import Shield
from services.compressor.spans import Range, Spans
from services.compressor.stages.xml_blocks import Kind, Token, find_xml

_DEEPEST = 256
_MOST_BLOCKS = 10_000
"""In one text; what comes after them is left alone."""
_MOST_WASTE = 4
"""Characters that may be looked at in vain, in lengths of the text, before the rest is left alone."""
VERBATIM = frozenset({"code", "kbd", "listing", "pre", "samp", "textarea", "xmp"})
"""White space in them is text."""
_CODE = frozenset({"script", "style"})
_RAW = _CODE | {"iframe", "noembed", "noframes", "plaintext", "textarea", "title", "xmp"}
"""No tags are read in them."""
_WITHOUT_END = "area base br col embed hr img input link meta param source track wbr"
_VOID = frozenset(_WITHOUT_END.split())
_BLOCK_LEVEL = """
address article aside blockquote body center details div dl fieldset figure footer form h1 h2 h3 h4 h5 h6 head header
main nav ol p section table ul
"""
_ROOTS = _BLOCK_LEVEL.split()
_CELLS = frozenset({"p", "td", "th"})
_ROWS = _CELLS | {"tr", "caption", "colgroup"}
_ENDS = {
    **dict.fromkeys([*_ROOTS, "hr", "pre"], frozenset({"p"})),
    "body": frozenset({"p", "head"}),
    "li": frozenset({"p", "li"}),
    **dict.fromkeys(["dt", "dd"], frozenset({"p", "dt", "dd"})),
    "option": frozenset({"option"}),
    "optgroup": frozenset({"option", "optgroup"}),
    **dict.fromkeys(["td", "th"], _CELLS),
    "tr": _ROWS,
    **dict.fromkeys(["thead", "tbody", "tfoot"], _ROWS | {"thead", "tbody", "tfoot"}),
}
"""Which elements without end tag a start tag ends."""
# ASCII: else a long s is an s, and a no-break space a blank.
_FLAGS = re.ASCII | re.IGNORECASE | re.MULTILINE
_BLANKS = r"[ \t\n\r\f]"
_NAME = r"[a-z][\w:.\-]*+"
# A brace where an attribute or its value begins is a template's or JSX, whose white space may be code.
_VALUE = r"(?:\"[^\"]*+\"|'[^']*+'|[^\s\"'<>`={][^\s\"'<>`]*+)"
_ATTRIBUTE = rf"(?:{_BLANKS}++|(?<=[\"']))[^\s\"'<>/={{][^\s\"'<>/=]*+(?:{_BLANKS}*+={_BLANKS}*+{_VALUE})?+"
_TOKEN = re.compile(
    r"(?P<other><!--(?!-?>)(?:[^-]++|-(?!-(?:\s*+|!)>))*+-->|<!doctype\s[^<>\[]*+>|<\?xml\s[^<>]*+>)"
    rf"|</(?P<closed>{_NAME}){_BLANKS}*+>"
    rf"|<(?P<opened>{_NAME})(?:{_ATTRIBUTE})*+{_BLANKS}*+(?P<empty>/?+)>"
    r"|(?P<text>(?:[^<]++|<(?=[ \t\n\r\f\d=]))++)",
    _FLAGS,
)
# Where no tag counts is a block too: one that stays as it is.
_STARTS = "|".join(sorted({"html", *_ROOTS, *VERBATIM, *_RAW}))
_START = re.compile(rf"^[ \t]*+(?=<(?:!--|(?:!doctype\s++html|{_STARTS})[\s/>]))", _FLAGS)
_NEXT_DOCUMENT = re.compile(r"^[ \t]*+(?=<!doctype\s++html[\s>])", _FLAGS)
_RAW_END = {name: re.compile(rf"</{name}(?=[\s/>])", _FLAGS) for name in _RAW}


@dataclass(frozen=True, slots=True, kw_only=True)
class HtmlBlock:
    """A document, or an element up to its end."""

    start: int
    end: int
    tokens: tuple[Token, ...]
    """Of the kind OTHER is all that must stay as it is, such as everything in an element where white space is text."""
    is_closed_document: bool


def find_html(text: str, shield: Shield) -> tuple[HtmlBlock, ...]:
    """All HTML in the text that the shield admits, but for well-formed XML."""
    valid: list[HtmlBlock] = []
    position = wasted_chars = 0
    if "<" not in text or (found := _START.search(text)) is None:
        return ()
    xml = Spans((block.start, block.end) for block in find_xml(text, shield).valid)
    fence_starts = [start for start, _ in shield.fenced]
    while found is not None and len(valid) < _MOST_BLOCKS and wasted_chars <= _MOST_WASTE * len(text):
        start, next_start = found.end(), _START
        limit = _limit(text, start, shield, fence_starts)
        if (foreign := xml.covering(start) or _code(start, shield)) is not None:
            position = foreign[1]
        elif (block := _read(text, start, limit)) is not None:
            position = block.end
            valid += [block] if shield.admits(text, block.start, block.end) else []
        else:
            position, next_start = start + 1, _NEXT_DOCUMENT
            wasted_chars += limit - start
        found = next_start.search(text, position)
    return tuple(valid)


def _code(start: int, shield: Shield) -> Range | None:
    """The fenced code around it. What starts in the frozen prefix is read, since what reaches into it stays whole."""
    return shield.fenced.covering(start) if shield.hard.covering(start) is not None else None


def _limit(text: str, start: int, shield: Shield, fence_starts: list[int]) -> int:
    """The end of the fence around it, else the start of the next."""
    if (inside := shield.fenced.covering(start)) is not None:
        return inside[1]
    following = bisect_right(fence_starts, start)
    return fence_starts[following] if following < len(fence_starts) else len(text)


def _read(text: str, start: int, limit: int) -> HtmlBlock | None:
    """The block that starts here; None where it can't be read or does not end."""
    following = _tokens(text, start, limit)
    root = next(following, None)
    if root is None or root.kind is Kind.EMPTY:
        return None
    if root.text.startswith("<!--"):
        return HtmlBlock(start=start, end=start + len(root.text), tokens=(root,), is_closed_document=False)
    is_document = root.kind is Kind.OTHER or root.name == "html"
    nesting = _Nesting()
    nesting.push(root, "html" if is_document else root.name)
    tokens = [root]
    for token in following:
        read = token if nesting.verbatim_at is None else token._replace(kind=Kind.OTHER)
        if not nesting.follow(token):
            return None
        if not nesting.names:
            tokens = [*tokens, read] if token.kind is Kind.CLOSE else _without_indentation(tokens)
            break
        tokens.append(read)
    end = start + sum(len(token.text) for token in tokens)
    if nesting.names and not (is_document and end == len(text)):
        return None
    is_closed_document = is_document and not nesting.names
    return HtmlBlock(start=start, end=end, tokens=tuple(tokens), is_closed_document=is_closed_document)


def _without_indentation(tokens: list[Token]) -> list[Token]:
    """What comes before a tag that ends the block; the blanks before that tag are the next block's."""
    *others, last = tokens
    return [*others, last._replace(text=last.text.rstrip(" \t"))] if last.kind is Kind.TEXT else tokens


def _tokens(text: str, position: int, limit: int) -> Iterator[Token]:
    """Up to the limit, or to what can be read in more than one way."""
    while found := _TOKEN.match(text, position, limit):
        token = _token(found)
        yield token
        position = found.end()
        if token.kind is Kind.OPEN and token.name in _RAW:
            end = _raw_end(text, token.name, position, limit)
            if end is None:
                return
            yield Token(Kind.OTHER, text[position:end], token.name)
            position = end


def _token(found: re.Match[str]) -> Token:
    if found["text"] is not None:
        return Token(Kind.TEXT, found[0])
    if found["closed"] is not None:
        return Token(Kind.CLOSE, found[0], found["closed"].lower())
    if found["opened"] is not None:
        name = found["opened"].lower()
        return Token(Kind.EMPTY if found["empty"] or name in _VOID else Kind.OPEN, found[0], name)
    return Token(Kind.OTHER, found[0])


def _raw_end(text: str, name: str, position: int, limit: int) -> int | None:
    """Where the content ends that is no markup; None where that is in doubt."""
    found = _RAW_END[name].search(text, position, limit)
    if found is None or name == "plaintext":
        return None
    content = text[position : found.start()]
    # Old parsers read tags in titles and text areas. A script that opens a comment and a script ends behind both.
    is_in_doubt = "<!--" in content and "<script" in content.lower() if name in _CODE else "<" in content
    return None if is_in_doubt else found.start()


@dataclass(slots=True, kw_only=True)
class _Nesting:
    """The open elements."""

    names: list[str] = field(default_factory=list)
    verbatim_at: int | None = None
    """The place of the outermost one in which white space is text."""

    def push(self, token: Token, name: str) -> None:
        # A document's own element is open from its document type on.
        place = 0 if self.names and name == self.names[0] == "html" else len(self.names)
        if place == len(self.names):
            self.names.append(name)
        if self.verbatim_at is None and (name in VERBATIM or _styles_white_space(token)):
            self.verbatim_at = place

    def follow(self, token: Token) -> bool:
        """False where it can't be read on. No names are left where the root has ended: with or before this tag."""
        if token.kind is Kind.CLOSE:
            return self._close(token.name)
        if token.kind in (Kind.OPEN, Kind.EMPTY):
            return self._open(token)
        return bool(token.name) or not token.text[:9].lower().startswith("<!doctype")

    def _open(self, token: Token) -> bool:
        ended = _ENDS.get(token.name, frozenset())
        while self.names and self.names[-1] in ended:
            self.names.pop()
        if self.verbatim_at is not None and len(self.names) <= self.verbatim_at:
            return False
        if self.names and token.kind is Kind.OPEN:
            self.push(token, token.name)
        is_ambiguous = token.kind is Kind.EMPTY and (token.name in VERBATIM or token.name in _RAW)
        return not is_ambiguous and len(self.names) <= _DEEPEST

    def _close(self, name: str) -> bool:
        """An end tag ends what is open inside; one without start tag ends nothing."""
        if name not in self.names:
            return True
        while self.names.pop() != name:
            pass
        if self.verbatim_at is None or len(self.names) > self.verbatim_at:
            return True
        is_its_own = len(self.names) == self.verbatim_at
        self.verbatim_at = None
        return is_its_own


def _styles_white_space(tag: Token) -> bool:
    """In its style, or as `xml:space` in a drawing."""
    text = tag.text.lower()
    return "white-space" in text or "xml:space" in text
