"""Arrays of records of one shape, as a table that names each key once.

    [{"id":1,"name":"Ann","is":true},{"id":2,"name":"B|b","is":true}]   ->   table[id|name|is=true
                                                                             1|Ann
                                                                             2|"B|b"]

What all rows hold stands in the head; the keys of a record inside are written `user.id`; an empty cell is a key that
the row lacks. Where there are too many columns, or no table, the records may be a list with usual values instead; see
`record_list`. The result is JSON with two more forms of value, and can be read back without doubt: no JSON value
starts with `t` but `true`, and none with `l`. Cells are JSON values as they were written; a string loses its quotes
only where it could be nothing else: not empty, not a number or literal, without quotes, escapes, brackets, bars and
line ends, and without blanks at its ends. Records with another order of keys, and duplicate keys, stay JSON.
"""

from __future__ import annotations

from services.compressor.shield import Shield
from services.compressor.spans import replaced
from services.compressor.stages.json_blocks import find_json
from services.compressor.stages.json_minify import minified
from services.compressor.stages.json_tree import Record, Value, json_tree
from services.compressor.stages.record_columns import table_text
from services.compressor.stages.record_list import is_worth_it, list_text, usual_of, without_usual
from services.compressor.stages.record_reader import MARKS, expanded
from services.compressor.stages.stage import Loss, Quality, Rewritten

__all__ = ["RecordTable", "expanded", "tabulated"]

_LEAST_ROWS = 3
_DEEPEST = 64


class RecordTable:
    """Whole JSON blocks outside fences, since a fence that says `json` should hold it."""

    name = "record_table"
    description = "Writes arrays of records of one shape as a table with one header, or with their usual values once"
    loss = Loss.LOSSLESS
    # Every value can be read back, in a form that models see less often than JSON.
    quality = Quality(score=0.98, low=0.90, high=1.0)
    roles = frozenset({"system", "user", "tool"})

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        changes = []
        for start, end in find_json(text, shield).valid if not MARKS.search(text) else ():
            block = text[start:end]
            if shield.fenced.overlaps(start, end):
                continue
            plain = minified(block)
            compact = tabulated(plain)
            is_kept = len(compact) < len(plain) and shield.survives(block, compact)
            if is_kept and expanded(compact) == plain:
                changes.append(((start, end), compact))
        return Rewritten(text=replaced(text, changes) if changes else text, segment_count=len(changes))


def tabulated(json_text: str) -> str:
    """Minified JSON with each array of records in its shortest form."""
    tree = json_tree(json_text, deepest=_DEEPEST) if "[{" in json_text else None
    return json_text if tree is None else _Writer().text_of(tree)


class _Writer:
    """Writes values, each once, whatever number of forms it is tried in."""

    def __init__(self) -> None:
        self._written: dict[int, tuple[Value, str]] = {}

    def text_of(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        if id(value) not in self._written:
            text = self._array(value) if isinstance(value, list) else self._record(value)
            self._written[id(value)] = (value, text)
        return self._written[id(value)][1]

    def _record(self, record: Record) -> str:
        return "{" + ",".join([f"{key}:{self.text_of(value)}" for key, value in record.pairs()]) + "}"

    def _array(self, values: list[Value]) -> str:
        plain = "[" + ",".join(map(self.text_of, values)) + "]"
        records = [value for value in values if isinstance(value, Record)]
        if len(values) < _LEAST_ROWS or len(records) < len(values):
            return plain
        table = table_text(records, self.text_of)
        return min([plain, *([table] if table else []), *self._lists(records)], key=len)

    def _lists(self, records: list[Record]) -> list[str]:
        usual = usual_of(records)
        if usual is None or not is_worth_it(usual):
            return []
        return [list_text(usual, [without_usual(record, usual) for record in records], self.text_of)]
