"""Prompts made from the sets under `--data`, each with what an answer to it needs.

Weights were set on the even rows of each set; the figures are those of the odd rows (`tools_bfcl`: of odd tool sets).
"""

from __future__ import annotations

import json
import math
import random
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.compressor.prompt_text import Part
from services.compressor.selection.terms import content_terms

SEED = 7
DOCUMENT_COUNT = 10
MANY_TOOLS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A prompt, and what of it an answer needs."""

    parts: tuple[Part, ...]
    kept_of_need: Callable[[str], float]
    """Share of the need that a text still holds; 0..1."""


def document_cases(data: Path, *, is_held_out: bool, limit: int = 300) -> Iterator[Case]:
    """What an answer needs is one of the strings that count as right."""
    for text, answers in document_questions(data, is_held_out=is_held_out, limit=limit):
        yield Case(
            parts=(Part(role="user", text=text),),
            kept_of_need=lambda sent, answers=answers: float(holds_answer(sent, answers)),
        )


def document_questions(data: Path, *, is_held_out: bool, limit: int) -> Iterator[tuple[str, list[str]]]:
    """Questions with their passage among nine others that share most words with them and lack the answer; and the
    strings that count as right."""
    rows = [json.loads(line) for line in (data / "qa_nq_oracle" / "nq_oracle.jsonl").read_text().splitlines()]
    rows = [row for row in rows if holds_answer(row["text"], row["answers"])]
    ranked = Ranked([f"{row['title']} {row['text']}" for row in rows])
    draw = random.Random(SEED)
    asked = [n for n in draw.sample(range(len(rows)), len(rows)) if n % 2 == is_held_out][:limit]
    for number in asked:
        row, others, seen = rows[number], [], {rows[number]["text"]}
        for other in ranked.best(row["question"]):
            text = rows[other]["text"]
            if text not in seen and not holds_answer(text, row["answers"]):
                others.append(rows[other])
                seen.add(text)
            if len(others) == DOCUMENT_COUNT - 1:
                break
        documents = draw.sample([*others, row], len(others) + 1)
        body = "\n".join(f"Document [{i}](Title: {d['title']}) {d['text']}" for i, d in enumerate(documents, 1))
        text = f"Write a short answer, using only the search results below.\n\n{body}\n\nQuestion: {row['question']}?"
        yield text, row["answers"]


def hop_cases(data: Path, *, is_held_out: bool) -> Iterator[Case]:
    """All rows that hold some of their evidence: the set is too small to halve."""
    for row in json.loads((data / "qa_hotpot_mini" / "hotpot_distractor_30.json").read_text()):
        facts = {(title, number) for title, number in row["supporting_facts"]}
        documents = [(title, list(sentences)) for title, sentences in row["context"]]
        needed = [one.strip() for title, own in documents for i, one in enumerate(own) if (title, i) in facts]
        if needed:
            body = "\n\n".join(f"Title: {title}\n{''.join(own).strip()}" for title, own in documents)
            parts = (Part(role="user", text=f"Answer the question.\n\n{body}\n\nQuestion: {row['question']}"),)
            yield Case(parts=parts, kept_of_need=lambda sent, needed=needed: share_of(needed, sent))


def meeting_cases(data: Path, *, is_held_out: bool) -> Iterator[Case]:
    """Specific questions about meetings; the need is the words of the turns that annotators marked."""
    rows = (data / "meetings_qmsum" / "test.jsonl").read_text().splitlines()
    for row in map(json.loads, rows[is_held_out::2]):
        turns = [f"{turn['speaker']}: {' '.join(turn['content'].split())}" for turn in row["meeting_transcripts"]]
        for question in row["specific_query_list"]:
            spans = [range(int(start), int(end) + 1) for start, end in question["relevant_text_span"]]
            needed = [turns[i] for span in spans for i in span if i < len(turns)]
            parts = (Part(role="tool", text="\n".join(turns)), Part(role="user", text=question["query"]))
            if needed:
                yield Case(parts=parts, kept_of_need=lambda sent, needed=needed: words_of(needed, sent))


def chat_cases(data: Path, *, is_held_out: bool) -> Iterator[Case]:
    """Questions about long chats, whose turns are messages; a session's first turn carries its date."""
    for chat in json.loads((data / "chat_locomo" / "locomo10_slim.json").read_text())[is_held_out::2]:
        texts, parts = {}, []
        for session in chat["sessions"]:
            for place, turn in enumerate(session["turns"]):
                date = f"[{session['when']}]\n" if place == 0 else ""
                texts[turn["dia_id"]] = f"{turn['speaker']}: {turn['text'].strip()}"
                role = "user" if turn["speaker"] == chat["speakers"][0] else "assistant"
                parts.append(Part(role=role, text=date + texts[turn["dia_id"]]))
        for question in chat["qa"][::3]:
            needed = [texts[one] for one in question["evidence"] if one in texts]
            if needed:
                asked = Part(role="user", text=question["question"])
                yield Case(parts=(*parts, asked), kept_of_need=lambda sent, needed=needed: share_of(needed, sent))


def tool_sets(data: Path, *, is_held_out: bool) -> Iterator[tuple[str, list[dict], set[str]]]:
    """A question, at least four tools, and the names of those to call. Questions of one set are in the same half."""
    number_of: dict[str, int] = {}
    for line in (data / "tools_bfcl" / "live_multiple.jsonl").read_text().splitlines():
        row = json.loads(line)
        number = number_of.setdefault(json.dumps(row["function"]), len(number_of))
        if number % 2 == is_held_out and len(row["function"]) >= MANY_TOOLS:
            yield row["question"][0][-1]["content"], row["function"], {name for call in row["truth"] for name in call}


class Ranked:
    """Texts by their BM25 score for a question, through an index of words."""

    def __init__(self, texts: Sequence[str]) -> None:
        own = [Counter(content_terms(text)) for text in texts]
        mean = statistics.mean(sum(one.values()) for one in own)
        known = Counter(term for one in own for term in one)
        self._scores: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, counts in enumerate(own):
            damping = 1.2 * (0.25 + 0.75 * sum(counts.values()) / mean)
            for term, count in counts.items():
                rarity = math.log1p((len(own) - known[term] + 0.5) / (known[term] + 0.5))
                self._scores[term].append((number, rarity * count * 2.2 / (count + damping)))

    def best(self, question: str) -> list[int]:
        totals: Counter[int] = Counter()
        for term in set(content_terms(question)):
            for number, score in self._scores.get(term, ()):
                totals[number] += score
        return [number for number, _ in totals.most_common(200)]


def holds_answer(text: str, answers: Sequence[str]) -> bool:
    return any(answer.lower() in text.lower() for answer in answers)


def share_of(needed: Sequence[str], text: str) -> float:
    return statistics.mean(one in text for one in needed)


def words_of(needed: Sequence[str], text: str) -> float:
    """Share of the words in needed lines that are kept; a line counts as far as its sentences are there."""
    lines = Counter(text.split("\n"))
    total = got = 0
    for line in needed:
        size = len(line.split())
        total += size
        got += size if lines[line] else sum(len(one.split()) for one in re.split(r"(?<=[.?!])\s+", line) if one in text)
    return got / total if total else 1.0
