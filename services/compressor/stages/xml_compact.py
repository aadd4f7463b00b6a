"""XML without the line breaks and indentation that only lay it out.

White space is dropped where it holds a line break and stands between two elements of a parent that has no text of its
own. It stays where it may be text: in elements that hold nothing else, in parents whose name is anywhere seen with
text and elements mixed, beside inline elements, and under `xml:space`. Comments stay: a question may be about them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from services.compressor.shield import Shield
from services.compressor.spans import replaced
from services.compressor.stages.stage import Loss, Quality, Rewritten
from services.compressor.stages.xml_blocks import Kind, Token, find_xml

_RUNNING_TEXT = """
a abbr acronym b bdi bdo big bold button cite code del dfn em emphasis ext-link i img input ins italic kbd label
mark q s samp select small span strike strong sub sup textarea tt u var xref
"""
_INLINE = frozenset(_RUNNING_TEXT.split())
_VERBATIM = frozenset({"pre", "script", "style", "textarea", "code", "verbatim", "programlisting"})


class XmlCompact:
    """XML blocks in text and in data fences."""

    name = "xml_compact"
    description = "Removes the line breaks and indentation between the elements of XML"
    loss = Loss.LOSSLESS
    # Equal elements, attributes and text; which white space is layout is a rule of thumb.
    quality = Quality(score=0.99, low=0.95, high=1.0)
    roles = frozenset({"system", "user", "tool"})

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        changes = []
        for block in find_xml(text, shield).valid:
            before = text[block.start : block.end]
            after = compacted(block.tokens)
            if len(after) < len(before) and shield.survives(before, after):
                changes.append(((block.start, block.end), after))
        return Rewritten(text=replaced(text, changes) if changes else text, segment_count=len(changes))


def compacted(tokens: Sequence[Token]) -> str:
    """The block's text without layout."""
    return "".join(token.text for token in without_layout(tokens))


def without_layout(tokens: Sequence[Token]) -> Sequence[Token]:
    """The tokens that hold something."""
    if any("xml:space" in token.text for token in tokens if token.kind in (Kind.OPEN, Kind.EMPTY)):
        return tokens
    return list(_kept(tokens, _Names.of(tokens)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Names:
    """What the block's own usage says about its element names."""

    mixed: set[str] = field(default_factory=set)
    """Seen with text and elements side by side."""
    inline: set[str] = field(default_factory=lambda: set(_INLINE))
    """Seen as a child of such an element, or known as markup of running text."""

    @classmethod
    def of(cls, tokens: Sequence[Token]) -> _Names:
        names = cls()
        stack: list[_Open] = []
        for token in tokens:
            if token.kind in (Kind.OPEN, Kind.EMPTY) and stack:
                stack[-1].children.add(token.name)
            if token.kind is Kind.OPEN:
                stack.append(_Open(name=token.name))
            elif token.kind is Kind.CLOSE:
                names._note(stack.pop())
            elif stack and _is_content(token):
                stack[-1].has_text = True
        return names

    def _note(self, element: _Open) -> None:
        if element.has_text and element.children:
            self.mixed.add(element.name)
            self.inline.update(element.children)


@dataclass(slots=True, kw_only=True)
class _Open:
    name: str
    has_text: bool = False
    children: set[str] = field(default_factory=set)


def _kept(tokens: Sequence[Token], names: _Names) -> Iterator[Token]:
    stack: list[str] = []
    verbatim_depth = 0
    for index, token in enumerate(tokens):
        if token.kind is Kind.OPEN:
            stack.append(token.name)
            verbatim_depth += token.name.lower() in _VERBATIM
        elif token.kind is Kind.CLOSE:
            verbatim_depth -= stack.pop().lower() in _VERBATIM
        parent = stack[-1] if stack else ""
        if verbatim_depth or parent in names.mixed or not _is_layout(tokens, index, names):
            yield token


def _is_layout(tokens: Sequence[Token], index: int, names: _Names) -> bool:
    """Whether this token is white space with a line break between two tags neither of which is inline."""
    token = tokens[index]
    if token.kind is not Kind.TEXT or "\n" not in token.text or not token.text.isspace():
        return False
    before, after = tokens[index - 1], tokens[index + 1]
    is_leaf = before.kind is Kind.OPEN and after.kind is Kind.CLOSE
    return not is_leaf and not any(near.name in names.inline or _is_content(near) for near in (before, after))


def _is_content(token: Token) -> bool:
    """Text that is not white space, and CDATA, which is text."""
    if token.kind is Kind.TEXT:
        return not token.text.isspace()
    return token.kind is Kind.OTHER and token.text.startswith("<![CDATA[")
