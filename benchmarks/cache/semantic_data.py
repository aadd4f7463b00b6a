"""The sets that look-up by meaning is measured on, as streams of questions with their answers.

A right hit has one definition per set, as the sets themselves say. Intents (BANKING77, CLINC150): the stored question
has the same intent; a query out of scope has an answer of its own, so that any hit on it is wrong. Pairs (PAWS-X,
MSRP, Quora, GPTCache's statements): the stored text is joined to the asked one by pairs labelled as equal; everything
else is wrong, even where nobody labelled it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

OUT_OF_SCOPE = "oos"
TUNED_ON = 3
"""One query in so many was used to choose the method's constants, and is left out of every measured stream."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question and the name of its answer."""

    text: str
    answer: str


def intents(data: Path, *, tuning: bool = False) -> list[Query]:
    """BANKING77 and CLINC150 in scope, without doubles of text; the queries kept for tuning, or the others."""
    queries = [*_banking(data), *(query for query in _clinc(data) if query.answer != f"clinc {OUT_OF_SCOPE}")]
    return [query for query in _unique(queries) if is_for_tuning(query.text) == tuning]


def out_of_scope(data: Path) -> list[Query]:
    """CLINC150's queries of no intent, each with an answer of its own."""
    found = _unique(query for query in _clinc(data) if query.answer == f"clinc {OUT_OF_SCOPE}")
    return [Query(query.text, f"oos {number}") for number, query in enumerate(found)]


def paws(data: Path) -> list[Query]:
    with (data / "pairs_hard" / "pawsx_en_dev.tsv").open(encoding="utf-8", newline="") as lines:
        rows = [line.rstrip("\r\n").split("\t") for line in lines]
    return _from_pairs((row[0], row[1], row[2] == "1") for row in rows if len(row) == 3)


def msrp(data: Path) -> list[Query]:
    with (data / "pairs_hard" / "msrp_test.tsv").open(encoding="utf-8-sig", newline="") as lines:
        rows = [line.rstrip("\r\n").split("\t") for line in lines][1:]
    return _from_pairs((row[3], row[4], row[0] == "1") for row in rows if len(row) == 5)


def quora(data: Path) -> list[Query]:
    rows = [json.loads(line) for line in (data / "pairs_qqp" / "qqp_12k.jsonl").read_text("utf-8").splitlines() if line]
    return _from_pairs((row["a"], row["b"], row["label"] == 1) for row in rows)


def gptcache_statements(data: Path) -> list[Query]:
    rows = json.loads((data / "pairs_qqp" / "gptcache_mock_pairs.json").read_text("utf-8"))
    return _from_pairs((row["origin"], row["similar"], True) for row in rows)


def shuffled(queries: Sequence[Query], seed: int) -> list[Query]:
    order = list(queries)
    random.Random(seed).shuffle(order)
    return order


def is_for_tuning(text: str) -> bool:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % TUNED_ON == 0


def _banking(data: Path) -> list[Query]:
    with (data / "intents_banking77" / "train.csv").open(encoding="utf-8", newline="") as lines:
        return [Query(" ".join(row["text"].split()), f"banking {row['category']}") for row in csv.DictReader(lines)]


def _clinc(data: Path) -> list[Query]:
    lines = (data / "intents_clinc150" / "clinc150.jsonl").read_text("utf-8").splitlines()
    return [Query(row["text"], f"clinc {row['intent']}") for row in map(json.loads, filter(None, lines))]


def _unique(queries: Iterable[Query]) -> list[Query]:
    """The first of each text: a text that comes again is an exact hit, which is not measured here."""
    return list({query.text: query for query in reversed(list(queries))}.values())[::-1]


def _from_pairs(pairs: Iterable[tuple[str, str, bool]]) -> list[Query]:
    """Both texts of each pair; texts joined by equal pairs have one answer."""
    joined: dict[str, str] = {}

    def root(text: str) -> str:
        while joined.setdefault(text, text) != text:
            text = joined[text]
        return text

    texts: list[str] = []
    for a, b, is_equal in pairs:
        texts += [a, b]
        root(a)
        root(b)
        if is_equal:
            joined[root(a)] = root(b)
    return [Query(text, root(text)) for text in dict.fromkeys(texts)]
