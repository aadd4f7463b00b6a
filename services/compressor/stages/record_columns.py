"""Records as the columns of a table, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from services.compressor.stages.columns import Columns, columns_of, rows_of
from services.compressor.stages.json_tree import STRING, Record, Value

LITERAL = r"-?(?:\d++(?:\.\d++)?+(?:[eE][+-]?\d++)?+|Infinity)|true|false|null|NaN"
_IS_LITERAL = re.compile(LITERAL)
_NEEDS_QUOTES = re.compile(r'[|\[\]{}"\\\n\r]')
_KEY_NEEDS_QUOTES = re.compile(r"[.=]")
_KEY_PART = re.compile(rf"({STRING}|[^.]++)\.?", re.DOTALL)
_MOST_COLUMNS = 24
_DEEPEST = 4
_LEAST_LOOSE_ROWS = 5
"""Below that many, only records that are flat and alike get a table: the others are as easily read as JSON."""


def table_text(records: Sequence[Record], text_of: Callable[[Value], str]) -> str | None:
    """The shorter of the tables with and without the records inside as columns; None where neither is one."""
    tables = (_table(records, text_of, deepest=deepest) for deepest in (0, _DEEPEST))
    return min((table for table in tables if table is not None), key=len, default=None)


def records_of(columns: Columns[Value]) -> list[Record]:
    """The inverse of the columns; keys as in a table's head."""
    return [_record(row) for row in rows_of(columns)]


def cell(written: str) -> str:
    """A JSON value as a cell: without quotes where it can be nothing else."""
    if written[0] != '"':
        return written
    bare = written[1:-1]
    is_plain = bare and bare == bare.strip() and not _NEEDS_QUOTES.search(bare) and not _IS_LITERAL.fullmatch(bare)
    return bare if is_plain else written


def json_of(bare: str) -> str:
    """The inverse, for a cell that is neither a string in quotes nor in brackets."""
    return bare if _IS_LITERAL.fullmatch(bare) else f'"{bare}"'


def _table(records: Sequence[Record], text_of: Callable[[Value], str], *, deepest: int) -> str | None:
    columns = columns_of([_row(record, deepest) for record in records], most=_MOST_COLUMNS)
    if columns is None or records_of(columns) != list(records):
        return None
    is_loose = any(not isinstance(value, str) for row in columns.rows for value in row)
    if is_loose and len(records) < _LEAST_LOOSE_ROWS:
        return None
    rows_text = ["|".join("" if value is None else cell(text_of(value)) for value in row) for row in columns.rows]
    if any("\n" in row for row in rows_text):
        # A row of more than one line is harder to read than JSON.
        return None
    heads = [
        f"{key}={cell(text_of(columns.constants[key]))}" if key in columns.constants else key for key in columns.keys
    ]
    return "table[" + "\n".join(["|".join(heads), *rows_text]) + "]"


def _row(record: Record, deepest: int, prefix: str = "") -> list[tuple[str, Value]]:
    cells: list[tuple[str, Value]] = []
    for key, value in record.pairs():
        path = prefix + _key(key)
        if isinstance(value, Record) and value.keys and deepest:
            cells += _row(value, deepest - 1, f"{path}.")
        else:
            cells.append((path, value))
    return cells


def _key(key: str) -> str:
    return key if _KEY_NEEDS_QUOTES.search(key) else cell(key)


def _record(row: Sequence[tuple[str, Value]]) -> Record:
    record = Record()
    for path, value in row:
        *steps, last = [json_of(part) if part[0] != '"' else part for part in _KEY_PART.findall(path)]
        inner = record
        for step in steps:
            inner = _inside(inner, step)
        inner.keys.append(last)
        inner.values.append(value)
    return record


def _inside(record: Record, key: str) -> Record:
    """The record under this key, if it was the last one, else a new one."""
    if not record.keys or record.keys[-1] != key or not isinstance(record.values[-1], Record):
        record.keys.append(key)
        record.values.append(Record())
    last = record.values[-1]
    assert isinstance(last, Record)
    return last
