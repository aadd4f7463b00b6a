"""Fits the packaged score of quality to a reader's answers: a logistic model of what the selector noted, and of each
lossless stage the share of verdicts that it leaves as they were.

It reads the even rows of the document questions and the even windows of payloads, so that the benchmark's odd ones tell
how good it is. Run it again whenever the selector or a format changes, and commit what it writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.compressor.answers import Reader
from benchmarks.compressor.format_trials import FormatTrial, format_trials
from benchmarks.compressor.lookups import real_lookups
from benchmarks.compressor.reader import FILE, LOOKUPS, QUESTIONS, add_arguments
from benchmarks.compressor.trials import Trial, document_questions, trials
from benchmarks.report import wilson
from services.compressor.quality import evidence
from services.compressor.quality.evidence import Evidence, Signal
from services.compressor.stages.stage import Quality

SIGNALS = ("kept_share", "mass_kept", "best_score", "margin_at_cut", "agreement")
SEEN = ("has_vectors", "log_candidates")
LEAST_SPREAD = 0.25
"""Of a feature that was always the same: what differs from it by this much is out of what was seen."""
RIDGE = 1.0
STEPS = 4000
ROUNDS = 200
SEED = 7

Floats = NDArray[np.float64]


def main() -> None:
    """Writes the file that the compressor reads at its start."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compressor.fit_quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of data sets")
    add_arguments(parser)
    parser.add_argument("--questions", type=int, default=QUESTIONS, metavar="N", help="default %(default)s")
    target = Path(evidence.__file__).parent / evidence.FILE
    parser.add_argument("--out", type=Path, default=target, metavar="FILE", help="default %(default)s")
    arguments = parser.parse_args()
    with Reader(FILE, model=arguments.reader, dtype=arguments.reader_dtype) as reader:
        formats = list(format_trials(real_lookups(arguments.data, is_held_out=False, limit=LOOKUPS), reader))
        questions = document_questions(arguments.data, is_held_out=False, limit=arguments.questions)
        found = list(trials(questions, reader, limit=arguments.questions))
        selection = fitted(found, reader.name)
    payloads = f"{len(formats)} of {len({trial.question for trial in formats})} questions about payloads"
    result = replace(selection, provenance=f"{selection.provenance}; {payloads}", lossless=fitted_formats(formats))
    arguments.out.write_text(result.as_json())
    print(f"{arguments.out}: {len(found)} outcomes of selection, {len(formats)} of formats", file=sys.stderr)


def fitted(found: Sequence[Trial], reader: str) -> Evidence:
    """The evidence of these outcomes."""
    signals = [_signal(name, [trial.features[name] for trial in found]) for name in SIGNALS]
    rows = np.array(
        [[1.0, *((trial.features[one.name] - one.middle) / one.spread for one in signals)] for trial in found]
    )
    unchanged = np.array([float(trial.is_unchanged) for trial in found])
    weights = logistic(rows, unchanged)
    question_count = len({trial.question for trial in found})
    return Evidence(
        provenance=f"{len(found)} outcomes of {question_count} questions over ten documents; {reader}",
        signals=tuple(signals),
        seen=tuple(_range(name, [trial.features[name] for trial in found]) for name in SEEN),
        weights=tuple(round(float(one), 4) for one in weights),
        covariance=tuple(
            tuple(round(float(one), 5) for one in row) for row in _covariance(found, rows, unchanged, question_count)
        ),
    )


def fitted_formats(found: Sequence[FormatTrial]) -> dict[str, Quality]:
    """Of each stage: the unchanged verdicts after it, as a share of those before it."""
    before = {(trial.question, trial.rewritten_by): trial.is_unchanged for trial in found}
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    for trial in found:
        *earlier, stage = trial.rewritten_by
        was_unchanged = before.get((trial.question, tuple(earlier)), True)
        pairs.setdefault(stage, []).append((was_unchanged, trial.is_unchanged))
    return {stage: _left_unchanged(own) for stage, own in sorted(pairs.items())}


def _left_unchanged(pairs: Sequence[tuple[bool, bool]]) -> Quality:
    """The interval is that of a share among those that were unchanged before."""
    was, still = (sum(column) for column in zip(*pairs, strict=True))
    still = min(was, still)
    low, high = wilson(still, was)
    return Quality(score=round((still + 0.5) / (was + 1), 4), low=round(low, 4), high=round(high, 4))


def logistic(rows: Floats, outcomes: Floats) -> Floats:
    """The most likely weights, the intercept first, none of the others negative, with a small ridge: by projected
    gradient steps, since the problem is convex and has few weights."""
    weights = np.zeros(rows.shape[1])
    ridge = np.array([0.0, *[RIDGE] * (rows.shape[1] - 1)])
    # The curvature of the logistic loss is at most a quarter of that of the rows.
    step = 1.0 / (0.25 * float(np.linalg.norm(rows, 2)) ** 2 + RIDGE)
    for _ in range(STEPS):
        chances = 1.0 / (1.0 + np.exp(-rows @ weights))
        weights = weights - step * (rows.T @ (chances - outcomes) + ridge * weights)
        weights[1:] = np.maximum(weights[1:], 0.0)
    return weights


def _covariance(found: Sequence[Trial], rows: Floats, unchanged: Floats, question_count: int) -> Floats:
    """Between fits to questions drawn anew."""
    draw = np.random.default_rng(SEED)
    own = [np.flatnonzero([trial.question == number for trial in found]) for number in range(question_count)]
    fits = []
    for _ in range(ROUNDS):
        chosen = np.concatenate([own[number] for number in draw.integers(0, question_count, question_count)])
        fits.append(logistic(rows[chosen], unchanged[chosen]))
    return np.cov(np.array(fits).T)


def _signal(name: str, values: Sequence[float]) -> Signal:
    spread = float(np.std(values)) or LEAST_SPREAD
    return Signal(
        name=name,
        middle=round(float(np.mean(values)), 4),
        spread=round(spread, 4),
        least=round(min(values), 4),
        most=round(max(values), 4),
    )


def _range(name: str, values: Sequence[float]) -> Signal:
    """Only its bounds count: its spread is half of them."""
    half = (max(values) - min(values)) / 2
    return Signal(
        name=name,
        middle=round(min(values) + half, 4),
        spread=round(half or LEAST_SPREAD, 4),
        least=round(min(values), 4),
        most=round(max(values), 4),
    )


if __name__ == "__main__":
    main()
