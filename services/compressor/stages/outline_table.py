"""Repeated elements of one simple shape as rows of cells, and back.

A column is named by the way from the repeated element: `@a` an attribute, `b` the text of a child, `b/c` of a child's
child, `b/@a` a child's attribute, `.` the element's own text. A cell may list the texts of a repeated child.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from services.compressor.stages.columns import Columns, columns_of, rows_of
from services.compressor.stages.xml_tree import RAW, Element

Cell = str | list[str]
OWN_TEXT = "."
_DEEPEST = 4
_MOST_COLUMNS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Elements with one name, side by side."""

    name: str
    columns: Columns[Cell]


def table_of(same: list[Element]) -> Table | None:
    """None where they are too different, or would not be read back as they are."""
    rows = [cells for element in same if (cells := cells_of(element)) is not None]
    columns = columns_of(rows, most=_MOST_COLUMNS)
    if columns is None or any(all(cell is None for cell in row) for row in columns.rows):
        return None
    table = Table(name=same[0].name, columns=columns)
    return table if elements_of(table) == same else None


def elements_of(table: Table) -> list[Element]:
    """The inverse."""
    return [element_of(table.name, row) for row in rows_of(table.columns)]


def chain(element: Element) -> tuple[str, Element]:
    """The path through elements that hold nothing but one element, and the last of them."""
    path = element.name
    while not element.attributes and len(element.children) == 1 and element.children[0].name != RAW:
        element = element.children[0]
        path += f"/{element.name}"
    return path, element


def is_plain(element: Element) -> bool:
    """Whether it holds text or nothing."""
    return not element.attributes and not element.children and element.name != RAW


def cells_of(element: Element, prefix: str = "", depth: int = 0) -> list[tuple[str, Cell]] | None:
    """The element's row; None where its shape is no row's."""
    cells: list[tuple[str, Cell]] = [(f"{prefix}@{name}", value) for name, value in element.attributes]
    if element.text or (not element.children and not cells):
        cells.append((prefix.removesuffix("/") or OWN_TEXT, element.text))
    for name, group in groupby(element.children, key=lambda child: child.name):
        inner = _child_cells(list(group), prefix, depth) if name != RAW and depth < _DEEPEST else None
        if inner is None:
            return None
        cells += inner
    return cells


def element_of(name: str, cells: list[tuple[str, Cell]]) -> Element:
    """The inverse."""
    row = Element(name=name)
    for key, cell in cells:
        *steps, last = key.split("/")
        if isinstance(cell, list):
            row.children += [_nested([*steps, last], text) for text in cell]
            continue
        parent = row
        for step in steps:
            parent = _child(parent, step)
        _put(parent, last, cell)
    return row


def _child_cells(same: list[Element], prefix: str, depth: int) -> list[tuple[str, Cell]] | None:
    """Of children with one name, side by side."""
    if len(same) == 1:
        return cells_of(same[0], f"{prefix}{same[0].name}/", depth + 1)
    ends = [chain(child) for child in same]
    path = ends[0][0]
    if prefix or any(found != path or not is_plain(end) for found, end in ends):
        return None
    return [(path, [end.text for _, end in ends])]


def _put(parent: Element, last: str, cell: str) -> None:
    if last.startswith("@"):
        parent.attributes.append((last[1:], cell))
    elif last == OWN_TEXT:
        parent.text = cell
    else:
        _child(parent, last).text = cell


def _child(parent: Element, name: str) -> Element:
    if not parent.children or parent.children[-1].name != name:
        parent.children.append(Element(name=name))
    return parent.children[-1]


def _nested(path: list[str], text: str) -> Element:
    element = Element(name=path[-1], text=text)
    for name in reversed(path[:-1]):
        element = Element(name=name, children=[element])
    return element
