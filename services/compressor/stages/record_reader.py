"""Reads tables and lists of records back: the inverse of `record_table`."""

from __future__ import annotations

import re

from services.compressor.stages.columns import Columns
from services.compressor.stages.json_tree import STRING, Record, Value, json_text
from services.compressor.stages.record_columns import json_of, records_of
from services.compressor.stages.record_list import with_usual

MARKS = re.compile(r"table\[|list\[usual ")
_STRING = re.compile(STRING, re.DOTALL)
_LITERAL = re.compile(r'[^\[\]{}",:|\n]++')
_BARE = re.compile(r"[^|\n\[\]]++")
_HEAD = re.compile(rf"((?:{STRING}|[^|\n=\"\]])++)(=?)", re.DOTALL)


class _Broken(ValueError):
    """Not what `record_table` writes."""


def expanded(text: str) -> str:
    """JSON with equal values in place of each table and list."""
    pieces = []
    position = 0
    while found := MARKS.search(text, position):
        try:
            value, end = _value(text, found.start())
        except (ValueError, RecursionError):
            value, end = text[found.start() : found.end()], found.end()
        pieces += [text[position : found.start()], json_text(value)]
        position = end
    return "".join([*pieces, text[position:]])


def _value(text: str, start: int) -> tuple[Value, int]:
    if text.startswith("table[", start):
        return _table(text, start + len("table["))
    if text.startswith("list[usual ", start):
        return _list(text, start + len("list[usual "))
    if text.startswith("{", start):
        return _record(text, start + 1)
    if text.startswith("[", start):
        return _array(text, start + 1)
    found = (_STRING if text.startswith('"', start) else _LITERAL).match(text, start)
    if found is None:
        raise _Broken
    return found[0], found.end()


def _array(text: str, position: int) -> tuple[list[Value], int]:
    values: list[Value] = []
    while not text.startswith("]", position):
        value, position = _value(text, position + bool(values))
        values.append(value)
        _expect(text, position, ",]")
    return values, position + 1


def _record(text: str, position: int) -> tuple[Record, int]:
    record = Record()
    while not text.startswith("}", position):
        key, position = _value(text, position + bool(record.keys))
        _expect(text, position, ":")
        value, position = _value(text, position + 1)
        _expect(text, position, ",}")
        if not isinstance(key, str):
            raise _Broken
        record.keys.append(key)
        record.values.append(value)
    return record, position + 1


def _list(text: str, position: int) -> tuple[list[Value], int]:
    usual, position = _value(text, position)
    records: list[Value] = []
    while not text.startswith("]", position):
        _expect(text, position, "\n")
        stated, position = _value(text, position + 1)
        if not isinstance(stated, Record) or not isinstance(usual, Record):
            raise _Broken
        records.append(with_usual(stated, usual))
    return records, position + 1


def _table(text: str, position: int) -> tuple[list[Value], int]:
    keys: list[str] = []
    constants: dict[str, Value] = {}
    while True:
        head = _HEAD.match(text, position)
        if head is None:
            raise _Broken
        keys.append(head[1])
        position = head.end()
        if head[2]:
            constant, position = _cell(text, position)
            if constant is None:
                raise _Broken
            constants[head[1]] = constant
        _expect(text, position, "|\n")
        position += 1
        if text[position - 1] == "\n":
            break
    rows, position = _rows(text, position, len(keys) - len(constants))
    columns = Columns(keys=tuple(keys), constants=constants, rows=rows)
    return list(records_of(columns)), position


def _rows(text: str, position: int, width: int) -> tuple[list[list[Value | None]], int]:
    rows: list[list[Value | None]] = [[]]
    while True:
        cell, position = _cell(text, position)
        rows[-1].append(cell)
        _expect(text, position, "|\n]")
        position += 1
        if text[position - 1] == "|":
            continue
        if len(rows[-1]) != width:
            raise _Broken
        if text[position - 1] == "]":
            return rows, position
        rows.append([])


def _cell(text: str, position: int) -> tuple[Value | None, int]:
    if (position < len(text) and text[position] in '"[{') or MARKS.match(text, position):
        return _value(text, position)
    found = _BARE.match(text, position)
    return (json_of(found[0]), found.end()) if found else (None, position)


def _expect(text: str, position: int, one_of: str) -> None:
    if position >= len(text) or text[position] not in one_of:
        raise _Broken
