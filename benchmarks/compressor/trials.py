"""What a reader answers to prompts as they are and as the compressor's pipeline sends them, beside what was expected.

An answer is right where it holds one of the expected strings, whatever the case of letters. The outcome of a trial is
unchanged where compression made no right answer wrong and no wrong answer right.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from benchmarks.compressor import selection_data
from benchmarks.compressor.answers import Reader
from benchmarks.compressor.selection import made_up_questions
from meshkit.clock import SystemClock
from services.compressor.app import chooser, lossless_stages, packaged_selector
from services.compressor.offload import Offload
from services.compressor.order import Order, Outcome
from services.compressor.pipeline import Pipeline
from services.compressor.prompt_text import Part
from services.compressor.selection.port import Selected, Selector, Task

AT_ONCE = 8
"""Questions."""
SHARES = (0.9, 0.8, 0.6, 0.4, 0.2)
"""Of the tokens: what the compressor is asked to send, and what it may send instead where a floor is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A prompt of one user turn, and the strings one of which a right answer holds."""

    text: str
    answers: Sequence[str]

    def is_right(self, answer: str) -> bool:
        return selection_data.holds_answer(answer, self.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One question at one size."""

    question: int
    prompt: str
    share: float
    reduction: float
    """In the reader's tokens."""
    features: Mapping[str, float]
    score: float
    """The predicted chance that the outcome is unchanged."""
    sent: str
    was_right: bool
    """With the whole prompt."""
    is_right: bool
    is_same: bool
    """The very same answer, but for the case of letters and spaces."""

    @property
    def is_unchanged(self) -> bool:
        return self.was_right == self.is_right


def document_questions(data: Path, *, is_held_out: bool, limit: int) -> Iterator[Question]:
    """Ten documents each, as selection is measured with."""
    for text, answers in selection_data.document_questions(data, is_held_out=is_held_out, limit=limit):
        yield Question(text=text, answers=answers)


def hop_questions(data: Path) -> Iterator[Question]:
    """Two-hop questions over ten articles: another domain than what the score was fitted on."""
    for row in json.loads((data / "qa_hotpot_mini" / "hotpot_distractor_30.json").read_text()):
        articles = "\n\n".join(f"Title: {title}\n{''.join(own).strip()}" for title, own in row["context"])
        text = f"Answer the question.\n\n{articles}\n\nQuestion: {row['question']}"
        yield Question(text=text, answers=[row["answer"]])


def made_up_document_questions() -> Iterator[Question]:
    """They show that the benchmark runs, and nothing else."""
    for text, answer in made_up_questions():
        yield Question(text=text, answers=[answer])


class Compressing:
    """The packaged pipeline, and what its selector noted of the last prompt."""

    def __init__(self, reader: Reader) -> None:
        stages = lossless_stages()
        self._selector = _Noting(packaged_selector())
        self._reader = reader
        self._pipeline = Pipeline(
            stages,
            offload=Offload(least_chars=10**9, concurrency=1),
            clock=SystemClock(),
            selector=self._selector,
            chooser=chooser(stages),
        )

    def outcome(self, text: str, share: float, floor: float | None) -> tuple[Outcome, Mapping[str, float]]:
        """What becomes of this text."""
        order = Order(parts=(Part(role="user", text=text),), target_ratio=share, min_quality=floor, is_selective=True)
        self._selector.features = {}
        outcome = asyncio.run(self._pipeline.compress(order, self._reader))
        return outcome, self._selector.features


class _Noting:
    def __init__(self, selector: Selector) -> None:
        self.name, self.description = selector.name, selector.description
        self._selector = selector
        self.features: Mapping[str, float] = {}

    def select(self, task: Task) -> Selected:
        selected = self._selector.select(task)
        self.features = selected.features
        return selected

    def weigh(self, kept: Sequence[str], left_out: Sequence[str], query: str) -> Mapping[str, float]:
        return self._selector.weigh(kept, left_out, query)


def trials(
    questions: Iterator[Question],
    reader: Reader,
    *,
    shares: Sequence[float] = SHARES,
    floor: float | None = None,
    limit: int,
) -> Iterator[Trial]:
    """A few questions at a time, since the reader is quicker at several; a run that is cut has whole ones."""
    compressing, began_at = Compressing(reader), time.monotonic()
    numbered = zip(range(limit), questions, strict=False)
    while several := list(islice(numbered, AT_ONCE)):
        sent = [[compressing.outcome(question.text, share, floor) for share in shares] for _, question in several]
        prompts = [question.text for _, question in several]
        reader.answers([*prompts, *(outcome.texts[0] for one in sent for outcome, _ in one)])
        for (number, question), outcomes in zip(several, sent, strict=True):
            yield from _trials_of(number, question, shares, outcomes, reader)
        print(f"reader: {number + 1} questions, {time.monotonic() - began_at:.0f} s", file=sys.stderr, flush=True)


def _trials_of(
    number: int,
    question: Question,
    shares: Sequence[float],
    outcomes: Sequence[tuple[Outcome, Mapping[str, float]]],
    reader: Reader,
) -> Iterator[Trial]:
    """The trials of one question, whose answers the reader has given."""
    whole, *short = reader.answers([question.text, *(outcome.texts[0] for outcome, _ in outcomes)])
    size = reader.count_one(question.text)
    was_right = question.is_right(whole)
    for share, (outcome, features), answer in zip(shares, outcomes, short, strict=True):
        yield Trial(
            question=number,
            prompt=question.text,
            share=share,
            reduction=1 - reader.count_one(outcome.texts[0]) / size,
            features=features,
            score=outcome.quality.score,
            sent=outcome.texts[0],
            was_right=was_right,
            is_right=question.is_right(answer),
            is_same=_plain(whole) == _plain(answer),
        )


def _plain(answer: str) -> str:
    return " ".join(answer.lower().split())
