"""XML as a tree of elements whose text stays as it is written, and the tree as XML again.

Nothing is decoded: entities, CDATA and the markup inside running text are kept in their own spelling. An element holds
either elements or text; what mixes both is text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from services.compressor.stages.xml_blocks import ATTRIBUTE, Kind, Token

RAW = ""
"""The name of what is no element: a comment, an instruction, a document type. Its text is its source."""


@dataclass(slots=True, kw_only=True)
class Element:
    """One element. It has children, or text, or neither."""

    name: str
    attributes: list[tuple[str, str]] = field(default_factory=list)
    text: str = ""
    children: list[Element] = field(default_factory=list)


def tree_of(tokens: Sequence[Token]) -> list[Element]:
    """The root, after what stands before it. The tokens are those of a block whose layout is gone."""
    closings = _closings(tokens)
    return _siblings(tokens, closings, 0, len(tokens))


def depth_of(tokens: Sequence[Token]) -> int:
    """The most elements inside each other."""
    deepest = depth = 0
    for token in tokens:
        depth += (token.kind is Kind.OPEN) - (token.kind is Kind.CLOSE)
        deepest = max(deepest, depth)
    return deepest


def xml_of(elements: Iterable[Element]) -> str:
    """The tree as XML without layout."""
    return "".join(_written(element) for element in elements)


def _closings(tokens: Sequence[Token]) -> dict[int, int]:
    """For each opening tag, by position, its closing tag."""
    opened: list[int] = []
    closings = {}
    for index, token in enumerate(tokens):
        if token.kind is Kind.OPEN:
            opened.append(index)
        elif token.kind is Kind.CLOSE:
            closings[opened.pop()] = index
    return closings


def _siblings(tokens: Sequence[Token], closings: dict[int, int], start: int, end: int) -> list[Element]:
    found = []
    for index, next_index in pairwise([*_tops(tokens, closings, start, end), end]):
        token = tokens[index]
        if token.kind is Kind.OTHER:
            found.append(Element(name=RAW, text=token.text))
        elif token.kind is not Kind.TEXT:
            found.append(_element(tokens, closings, index, next_index))
    return found


def _tops(tokens: Sequence[Token], closings: dict[int, int], start: int, end: int) -> Iterator[int]:
    """Where each sibling begins."""
    index = start
    while index < end:
        yield index
        index = closings.get(index, index) + 1


def _element(tokens: Sequence[Token], closings: dict[int, int], start: int, end: int) -> Element:
    element = Element(name=tokens[start].name, attributes=_attributes(tokens[start].text))
    inner = range(start + 1, closings.get(start, start))
    tops = [tokens[index] for index in _tops(tokens, closings, inner.start, inner.stop)]
    if any(token.kind is Kind.TEXT or token.text.startswith("<![CDATA[") for token in tops):
        element.text = "".join(tokens[index].text for index in inner)
    else:
        element.children = _siblings(tokens, closings, inner.start, inner.stop)
    return element


def _attributes(tag: str) -> list[tuple[str, str]]:
    return [(name, quoted[1:-1]) for name, quoted in ATTRIBUTE.findall(tag)]


def _written(element: Element) -> str:
    if element.name == RAW:
        return element.text
    tag = element.name + "".join(f" {name}={_quoted(value)}" for name, value in element.attributes)
    inner = element.text or xml_of(element.children)
    return f"<{tag}>{inner}</{element.name}>" if inner else f"<{tag}/>"


def _quoted(value: str) -> str:
    return f"'{value}'" if '"' in value else f'"{value}"'
