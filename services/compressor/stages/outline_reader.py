"""Reads an outline back: the inverse of `outline_lines`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.compressor.stages.columns import Columns
from services.compressor.stages.outline_table import Table, elements_of
from services.compressor.stages.outline_values import CELL, FIELD, LISTED, PATH, read_cell, read_list, read_text
from services.compressor.stages.xml_blocks import NAME
from services.compressor.stages.xml_tree import RAW, Element

_LIST = rf"\[{LISTED}(?:,{LISTED})*+\]"
_TABLE = re.compile(rf"({NAME}) table (.*)")
_COLUMN = re.compile(rf"(?:^|\|)([^=|]++)(?:=({CELL}))?")
_CELLS = re.compile(rf"(?:^|\|)({CELL})")
_HEAD = re.compile(rf"({PATH})(?![=/])")
_ATTRIBUTE = re.compile(rf" @({NAME})=({FIELD})")
_FIELDS = re.compile(rf"(?:^| )({PATH})=(?:({_LIST})|({FIELD}))")


def elements_from(lines: Sequence[str]) -> list[Element]:
    """The elements that these lines write: the inverse of `outline_lines` for each of them."""
    top = Element(name="top")
    open_elements = [top]
    index = 0
    while index < len(lines):
        depth, line = _split(lines[index])
        del open_elements[depth + 1 :]
        parent = open_elements[-1]
        index += 1
        if (table := _TABLE.fullmatch(line)) is not None:
            end = _rows_end(lines, index, depth + 1)
            parent.children += _rows(table[1], table[2], [line[depth + 1 :] for line in lines[index:end]])
            index = end
        elif line[0] in '<"':
            parent.children.append(Element(name=RAW, text=read_text(line)))
        elif (head := _HEAD.match(line)) is not None:
            open_elements.append(_opened(parent, head, line))
        else:
            parent.children += _fields(line)
    return top.children


def _split(line: str) -> tuple[int, str]:
    text = line.lstrip(" ")
    return len(line) - len(text), text


def _rows_end(lines: Sequence[str], start: int, depth: int) -> int:
    end = start
    while end < len(lines) and _split(lines[end])[0] >= depth:
        end += 1
    return end


def _rows(name: str, head: str, rows: Sequence[str]) -> list[Element]:
    columns = [(found[1], found[2]) for found in _COLUMN.finditer(head)]
    constants = {key: cell for key, written in columns if written and (cell := read_cell(written)) is not None}
    keys = tuple(key for key, _ in columns)
    cells = [[read_cell(found[1]) for found in _CELLS.finditer(row)] for row in rows]
    return elements_of(Table(name=name, columns=Columns(keys=keys, constants=constants, rows=cells)))


def _opened(parent: Element, head: re.Match[str], line: str) -> Element:
    """Add the element that a line begins, and return the one that its children go to."""
    element = _descend(parent, head[1])
    position = head.end()
    while (attribute := _ATTRIBUTE.match(line, position)) is not None:
        element.attributes.append((attribute[1], read_text(attribute[2])))
        position = attribute.end()
    if line.startswith(": ", position):
        element.text = read_text(line[position + 2 :])
    else:
        element.children += _fields(line[position + 1 :])
    return element


def _descend(parent: Element, path: str) -> Element:
    for name in path.split("/"):
        child = Element(name=name)
        parent.children.append(child)
        parent = child
    return parent


def _fields(line: str) -> list[Element]:
    holder = Element(name="fields")
    for path, several, one in _FIELDS.findall(line):
        for text in read_list(several) if several else [read_text(one)]:
            _descend(holder, path).text = text
    return holder.children
