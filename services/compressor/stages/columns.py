"""Rows of named cells as columns: one order for all of them, and which columns hold one value only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Value = TypeVar("Value")
Row = Sequence[tuple[str, Value]]
"""Keys with their values, in order; no key twice."""


_MOST_KEYS = 256
"""Of all rows together; more are no table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns(Generic[Value]):
    """A table; a cell is None where a row lacks the key."""

    keys: tuple[str, ...]
    constants: dict[str, Value]
    """Columns that hold this value in each row."""
    rows: list[list[Value | None]]
    """The cells of the other columns."""

    @property
    def varying(self) -> list[str]:
        return [key for key in self.keys if key not in self.constants]


def columns_of(rows: Sequence[Row[Value]], *, most: int) -> Columns[Value] | None:
    """None where the rows do not agree on an order, are mostly gaps, or need more than `most` varying columns."""
    keys = common_order([[key for key, _ in row] for row in rows])
    if keys is None:
        return None
    by_key = [dict(row) for row in rows]
    constants = _constants(by_key)
    if len(constants) == len(keys):
        # A row must hold something; the last column is written out.
        del constants[keys[-1]]
    varying = [key for key in keys if key not in constants]
    if len(varying) > most:
        return None
    cells = [[row.get(key) for key in varying] for row in by_key]
    gap_count = sum(cell is None for row in cells for cell in row)
    if 2 * gap_count > len(cells) * len(varying):
        return None
    return Columns(keys=tuple(keys), constants=constants, rows=cells)


def rows_of(columns: Columns[Value]) -> list[list[tuple[str, Value]]]:
    """The inverse."""
    found = []
    for cells in columns.rows:
        by_key = {**columns.constants, **dict(zip(columns.varying, cells, strict=True))}
        found.append([(key, value) for key in columns.keys if (value := by_key[key]) is not None])
    return found


def common_order(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """An order of all keys that each row keeps, if there is one. A key that the first row lacks goes behind another."""
    order: list[str] = []
    for row_keys in dict.fromkeys(map(tuple, rows)):
        if not row_keys or len(set(row_keys)) < len(row_keys) or len(order) + len(row_keys) > 2 * _MOST_KEYS:
            return None
        position = 0
        for key in row_keys:
            if key not in order:
                order.insert(position, key)
            found = order.index(key)
            if found < position:
                return None
            position = found + 1
    return order


def _constants(by_key: Sequence[dict[str, Value]]) -> dict[str, Value]:
    first, *others = by_key
    return {key: value for key, value in first.items() if all(row.get(key) == value for row in others)}
