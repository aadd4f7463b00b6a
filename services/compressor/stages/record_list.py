"""Records that mostly agree as a list that states what most of them hold once.

    list[usual {"id":_,"kind":"a","user":{"name":_,"is_admin":false}}
    {"id":1,"user":{"name":"Ann"}}
    {"id":2,"kind":"b","user":{"name":"Bo"}}]

The first line holds all keys in order; `_` stands for a value that each record states. A record leaves out what is as
usual; a key that a record lacks altogether never has a usual value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from services.compressor.stages.columns import common_order
from services.compressor.stages.json_tree import Record, Value, json_text

STATED = "_"
_LEAST_KEYS = 6
_DEEPEST = 4
_LONGEST_USUAL = 60
"""Characters; what is longer is content rather than a setting that most records share."""


def usual_of(records: Sequence[Record], depth: int = 0) -> Record | None:
    """All keys, each with its usual value, `_`, or the same for the records inside. None: they have no one order."""
    order = common_order([record.keys for record in records])
    if order is None:
        return None
    by_key = [dict(record.pairs()) for record in records]
    return Record(
        keys=order, values=[_usual([row[key] for row in by_key if key in row], len(records), depth) for key in order]
    )


def is_worth_it(usual: Record) -> bool:
    """Whether the records are wide, some value is usual, and some is not: what is narrow reads better as it is."""
    values = list(_leaves(usual))
    return len(values) >= _LEAST_KEYS and STATED in values and any(value != STATED for value in values)


def without_usual(record: Record, usual: Record) -> Record:
    """What the record has to state."""
    expected = dict(usual.pairs())
    kept = Record()
    for key, value in record.pairs():
        usual_value = expected[key]
        if isinstance(value, Record) and isinstance(usual_value, Record):
            value = without_usual(value, usual_value)
            if not value.keys:
                continue
        elif value == usual_value:
            continue
        kept.keys.append(key)
        kept.values.append(value)
    return kept


def with_usual(stated: Record, usual: Record) -> Record:
    """The inverse."""
    own = dict(stated.pairs())
    full = Record()
    for key, expected in usual.pairs():
        value = own.get(key, None if expected == STATED else expected)
        if isinstance(expected, Record):
            inner = own.get(key, Record())
            value = with_usual(inner, expected) if isinstance(inner, Record) else inner
        if value is not None:
            full.keys.append(key)
            full.values.append(value)
    return full


def list_text(usual: Record, stated: Sequence[Record], text_of: Callable[[Value], str]) -> str:
    return f"list[usual {json_text(usual)}\n" + "\n".join(map(text_of, stated)) + "]"


def _leaves(usual: Record) -> Iterator[Value]:
    for value in usual.values:
        yield from _leaves(value) if isinstance(value, Record) else (value,)


def _usual(values: Sequence[Value], record_count: int, depth: int) -> Value:
    if len(values) < record_count:
        return STATED
    records = [value for value in values if isinstance(value, Record)]
    if len(records) == record_count and depth < _DEEPEST:
        return usual_of(records, depth + 1) or STATED
    if records:
        return STATED
    texts = Counter(map(json_text, values))
    most, count = texts.most_common(1)[0]
    if 2 * count <= record_count or len(most) > _LONGEST_USUAL:
        return STATED
    return next(value for value in values if json_text(value) == most)
