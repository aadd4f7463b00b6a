"""Questions for one value of a real payload, as tools and people paste it: what a rewritten format does to answers.

Payloads are cut to windows that a small reader can hold. Even windows are for fitting, odd ones are held out.
"""

from __future__ import annotations

import json
import random
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from benchmarks.compressor.formats import made_up_json, made_up_xml, read_logs, read_payloads

SEED = 7
FEWEST_CHARS, MOST_CHARS = 400, 3_500
"""Of a window."""
FEWEST_RECORDS, FEWEST_LINES, MOST_LINES = 3, 8, 24
LONGEST_VALUE = 40
QUESTIONS_A_WINDOW = 4
LOG_QUESTIONS = {
    "Apache_2k.log": (re.compile(r"\[\w+ \w+ \d+ (\d\d:\d\d:\d\d) .* child (\d+) "), "child"),
    "HDFS_2k.log": (re.compile(r"\d+ (\d+) .*? blk_(-?\d+)"), "block (blk_…)"),
}
"""Of each log that is asked about: a line's time and the number that is asked for, and what that number is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A payload, a question for one of its values, and that value."""

    form: str
    """json, xml or log."""
    payload: str
    question: str
    answer: str


def real_lookups(data: Path, *, is_held_out: bool, limit: int) -> Iterator[Lookup]:
    """About the payloads and logs under `data`."""
    return lookups(dict(read_payloads(data)), dict(read_logs(data)), is_held_out=is_held_out, limit=limit)


def made_up_lookups() -> Iterator[Lookup]:
    """They show that the benchmark runs, and nothing else."""
    payloads = {"made_up.json": made_up_json(FEWEST_CHARS), "made_up.xml": made_up_xml(FEWEST_CHARS)}
    return lookups(payloads, {}, is_held_out=False, limit=1)


def lookups(payloads: Mapping[str, str], logs: Mapping[str, str], *, is_held_out: bool, limit: int) -> Iterator[Lookup]:
    """`limit` of each form, fewer where there are fewer, the same in every run; texts are by the names of files."""
    texts = {form: [text for name, text in payloads.items() if name.endswith(form)] for form in ("json", "xml")}
    windows = {
        "json": chain.from_iterable(_record_windows(json.loads(text)) for text in texts["json"]),
        "xml": chain.from_iterable(_element_windows(ET.fromstring(text)) for text in texts["xml"]),
        "log": chain.from_iterable(_line_windows(name, text) for name, text in logs.items() if name in LOG_QUESTIONS),
    }
    for own in windows.values():
        draw = random.Random(SEED)
        asked = [
            lookup
            for number, several in enumerate(own)
            if number % 2 == is_held_out
            for lookup in draw.sample(several, min(QUESTIONS_A_WINDOW, len(several)))
        ]
        yield from draw.sample(asked, min(limit, len(asked)))


def _record_windows(value: object) -> Iterator[list[Lookup]]:
    """Of arrays of objects, wherever they are."""
    if isinstance(value, list) and len(value) >= FEWEST_RECORDS and all(isinstance(one, dict) for one in value):
        window: list[dict[str, object]] = []
        for record in value:
            if len(json.dumps([*window, record], indent=2, ensure_ascii=False)) > MOST_CHARS:
                yield from _asked_of_records(window)
                window = []
            window.append(record)
        yield from _asked_of_records(window)
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _record_windows(inner)


def _asked_of_records(records: Sequence[dict[str, object]]) -> Iterator[list[Lookup]]:
    payload = json.dumps(records, indent=2, ensure_ascii=False)
    if len(records) < FEWEST_RECORDS or not FEWEST_CHARS <= len(payload) <= MOST_CHARS:
        return
    flat = [dict(_scalars(record)) for record in records]
    shared = [path for path in flat[0] if all(path in one for one in flat)]
    keys = [path for path in shared if len({one[path] for one in flat}) == len(flat)]
    found = []
    for key in keys:
        for target in shared:
            values = Counter(one[target] for one in flat)
            found += [
                Lookup(
                    form="json",
                    payload=payload,
                    question=f'What is "{target}" of the record whose "{key}" is {one[key]}?',
                    answer=one[target],
                )
                for one in flat
                if target != key and len(values) > 1 and not _is_told(one[target], one[key])
            ]
    if found:
        yield found


def _scalars(value: Mapping[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    """Short texts and numbers by their path."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _scalars(inner, f"{path}{key}.")
        elif isinstance(inner, str | int | float) and 0 < len(str(inner)) <= LONGEST_VALUE:
            yield f"{path}{key}", json.dumps(inner).strip('"')


def _element_windows(element: ET.Element) -> Iterator[list[Lookup]]:
    """The largest elements that are small enough, white space as published."""
    payload = ET.tostring(element, encoding="unicode").strip()
    if len(payload) < FEWEST_CHARS:
        return
    if len(payload) > MOST_CHARS:
        for child in element:
            yield from _element_windows(child)
        return
    heads = Counter(_head(one) for one in element.iter())
    found = [
        Lookup(form="xml", payload=payload, question=f"What is the text of {_head(one)}?", answer=text)
        for one in element.iter()
        if not len(one) and heads[_head(one)] == 1
        for text in [" ".join((one.text or "").split())]
        if 0 < len(text) <= LONGEST_VALUE and not _is_told(text, _head(one))
    ]
    if found:
        yield found


def _head(element: ET.Element) -> str:
    """Its opening tag."""
    attributes = [f'{name}="{value}"' for name, value in element.attrib.items()]
    return f"<{' '.join([element.tag, *attributes])}>"


def _line_windows(name: str, text: str) -> Iterator[list[Lookup]]:
    pattern, what = LOG_QUESTIONS[name]
    lines = iter(text.splitlines())
    draw = random.Random(SEED)
    while window := list(islice(lines, draw.randint(FEWEST_LINES, MOST_LINES))):
        matches = [match for line in window if (match := pattern.match(line))]
        times = Counter(re.findall(r"\d\d:\d\d:\d\d|(?<= )\d{6}(?= )", "\n".join(window)))
        found = [
            Lookup(
                form="log",
                payload="\n".join(window),
                question=f"Which {what} does the line of {match[1]} name?",
                answer=match[2],
            )
            for match in matches
            if times[match[1]] == 1
        ]
        if found:
            yield found


def _is_told(answer: str, question: str) -> bool:
    return answer.lower() in question.lower()
