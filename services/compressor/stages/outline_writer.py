"""A tree of elements as an outline: what lies inside is indented.

AuthorList @Complete=Y                      an element with an attribute
 Author table @Valid=Y|LastName|Initials    three or more alike, one a row; what all share stands in the head
  Lee|J
  Wu|"K|L"
PubDate Year=2018 Month=Feb                 children that hold text only
Link/Id=[11,12]                             the same twice: each Link holds one Id
Title: Any text up to the end of its line
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from services.compressor.stages.outline_table import Table, cells_of, chain, is_plain, table_of
from services.compressor.stages.outline_values import cell, field_value, json_string, line_text, listed
from services.compressor.stages.xml_tree import RAW, Element

_LONGEST_FIELD = 60
_LONGEST_LISTED = 120
_LONGEST_LINE = 300
"""Of fields, before the next ones start another."""
_LEAST_ROWS = 3


def outline_lines(element: Element, depth: int = 0) -> Iterator[str]:
    """The lines of one element, each with its indentation."""
    indent = " " * depth
    if element.name == RAW:
        yield indent + (json_string(element.text) if "\n" in element.text else element.text)
        return
    path, end = chain(element)
    line = indent + path + "".join(f" @{name}={field_value(value)}" for name, value in end.attributes)
    if end.text:
        yield f"{line}: {line_text(end.text)}"
        return
    for piece in _pieces(end.children):
        if isinstance(piece, str):
            if len(line) > _LONGEST_LINE:
                yield line
                line = ""
            line = f"{line} {piece}" if line else f"{indent} {piece}"
            continue
        if line:
            yield line
            line = ""
        yield from _table_lines(piece, depth + 1) if isinstance(piece, Table) else outline_lines(piece, depth + 1)
    if line:
        yield line


def _pieces(children: list[Element]) -> Iterator[str | Table | Element]:
    """In order: fields, tables, and elements that need lines of their own."""
    for name, group in groupby(children, key=lambda child: child.name):
        same = list(group)
        field = _field(same) if name != RAW else None
        if field is not None:
            yield field
        elif len(same) < _LEAST_ROWS or name == RAW:
            yield from (_field([element]) or element for element in same)
        else:
            yield from _tables_and_others(same)


def _field(same: list[Element]) -> str | None:
    """One child that holds short text only, or several with one path, as `path=value`."""
    if same[0].name == RAW:
        return None
    path, end = chain(same[0])
    if len(same) == 1:
        return f"{path}={field_value(end.text)}" if is_plain(end) and len(end.text) <= _LONGEST_FIELD else None
    ends = [chain(element) for element in same]
    if any(found != path or not is_plain(end) or len(end.text) > _LONGEST_LISTED for found, end in ends):
        return None
    return f"{path}={listed([end.text for _, end in ends])}"


def _tables_and_others(same: list[Element]) -> Iterator[str | Table | Element]:
    for is_row, group in groupby(same, key=lambda element: cells_of(element) is not None):
        run = list(group)
        table = table_of(run) if is_row and len(run) >= _LEAST_ROWS else None
        if table is None:
            yield from (_field([element]) or element for element in run)
        else:
            yield table


def _table_lines(table: Table, depth: int) -> Iterator[str]:
    indent = " " * depth
    columns = table.columns
    constants = columns.constants
    heads = (f"{key}={cell(constants[key])}" if key in constants else key for key in columns.keys)
    yield f"{indent}{table.name} table {'|'.join(heads)}"
    for row in columns.rows:
        yield f"{indent} {'|'.join(map(cell, row))}"
