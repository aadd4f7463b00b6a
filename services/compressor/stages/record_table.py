"""Arrays of flat records of one shape, as a table that names each key once.

    [{"id":1,"name":"Ann"},{"id":2,"name":"B|b"}]   ->   table[id|name
                                                         1|Ann
                                                         2|"B|b"]

The result is JSON with one more form of value, and can be read back without doubt: no JSON value starts with `t` but
`true`. Cells are JSON values as they were written; a string loses its quotes only where it could be nothing else: not
empty, not a number or literal, without quotes, escapes, brackets, bars and line ends, and without blanks at its ends.
Records with nested values, other keys or another order of keys, and duplicate keys stay JSON.
"""

from __future__ import annotations

import re

from services.compressor.shield import Shield
from services.compressor.spans import replaced
from services.compressor.stages.json_blocks import find_json
from services.compressor.stages.json_minify import minified
from services.compressor.stages.stage import Loss, Quality, Rewritten

_LEAST_ROWS = 3
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_LITERAL = r"-?(?:\d++(?:\.\d++)?+(?:[eE][+-]?\d++)?+|Infinity)|true|false|null|NaN"
_PAIR = rf"({_STRING}):({_STRING}|{_LITERAL})"
_RECORD = r"\{" + rf"{_STRING}:(?:{_STRING}|{_LITERAL})(?:,{_STRING}:(?:{_STRING}|{_LITERAL}))*+" + r"\}"
# First whatever starts no array of objects, in one stretch; else an array of flat records; else the bracket alone.
_PIECE = re.compile(rf'(?:{_STRING}|[^"\[]++|\[(?!\{{))++|(?P<records>\[{_RECORD}(?:,{_RECORD})*+\])|\[', re.DOTALL)
_RECORDS = re.compile(_RECORD, re.DOTALL)
_PAIRS = re.compile(_PAIR, re.DOTALL)
_IS_LITERAL = re.compile(_LITERAL)
_NEEDS_QUOTES = re.compile(r'[|\[\]"\\\n\r]')
_STRING_OR_TABLE = re.compile(rf'{_STRING}|table\[((?:{_STRING}|[^"\]])*+)\]', re.DOTALL)
_CELL = re.compile(rf"({_STRING}|[^|\n]*+)([|\n]?)", re.DOTALL)


class RecordTable:
    """Whole JSON blocks outside fences, since a fence that says `json` should hold it."""

    name = "record_table"
    description = "Writes arrays of flat records of one shape as a table with one header"
    loss = Loss.LOSSLESS
    # Every value can be read back, in a form that models see less often than JSON.
    quality = Quality(score=0.98, low=0.90, high=1.0)
    roles = frozenset({"system", "user", "tool"})

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        changes = []
        for start, end in find_json(text, shield).valid:
            block = text[start:end]
            if shield.fenced.overlaps(start, end):
                continue
            plain = minified(block)
            compact = tabulated(plain)
            if len(compact) < len(plain) and shield.survives(block, compact):
                changes.append(((start, end), compact))
        return Rewritten(text=replaced(text, changes) if changes else text, segment_count=len(changes))


def tabulated(json_text: str) -> str:
    """Minified JSON with each array of records as a table, where that is shorter."""
    pieces = _PIECE.finditer(json_text)
    return "".join(_table(piece[0]) if piece["records"] else piece[0] for piece in pieces)


def expanded(text: str) -> str:
    """The inverse: JSON with equal values."""
    return _STRING_OR_TABLE.sub(lambda found: found[0] if found[1] is None else _records(found[1]), text)


def _table(array: str) -> str:
    """The array as a table, or as it is where it has no one shape or would not get shorter."""
    records = [_PAIRS.findall(record) for record in _RECORDS.findall(array)]
    keys = [key for key, _ in records[0]]
    is_uniform = len(set(keys)) == len(keys) and all([key for key, _ in record] == keys for record in records)
    if len(records) < _LEAST_ROWS or not is_uniform:
        return array
    rows = [keys, *([value for _, value in record] for record in records)]
    table = "table[" + "\n".join("|".join(_cell(value) for value in row) for row in rows) + "]"
    return table if len(table) < len(array) else array


def _cell(value: str) -> str:
    if value[0] != '"':
        return value
    bare = value[1:-1]
    is_plain = bare and bare == bare.strip() and not _NEEDS_QUOTES.search(bare) and not _IS_LITERAL.fullmatch(bare)
    return bare if is_plain else value


def _records(body: str) -> str:
    rows = _rows(body)
    keys = [_json(cell) for cell in rows[0]]
    records = (",".join(f"{key}:{_json(cell)}" for key, cell in zip(keys, row, strict=True)) for row in rows[1:])
    return "[" + ",".join("{" + record + "}" for record in records) + "]"


def _rows(body: str) -> list[list[str]]:
    rows: list[list[str]] = [[]]
    for cell in _CELL.finditer(body):
        rows[-1].append(cell[1])
        if not cell[2]:
            break
        if cell[2] == "\n":
            rows.append([])
    return rows


def _json(cell: str) -> str:
    return cell if cell.startswith('"') or _IS_LITERAL.fullmatch(cell) else f'"{cell}"'
