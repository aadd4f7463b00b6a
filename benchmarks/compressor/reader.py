"""What compression does to a real reader's answers, beside the whole prompt, beside peers, and as it was predicted.

Every figure is of held-out questions and greedy answers. Answers are kept in `.cache/benchmarks`, so that a run that is
cut goes on where it was, and a second one takes seconds; another model or another prompt is another answer.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.compressor import llmlingua_peer
from benchmarks.compressor.answers import MODEL, Reader
from benchmarks.compressor.calibration import error_of_chance, expected_error, reliability
from benchmarks.compressor.format_trials import FormatTrial, format_trials
from benchmarks.compressor.lookups import Lookup, made_up_lookups, real_lookups
from benchmarks.compressor.peers import PEERS, Peer, Tokens, asked
from benchmarks.compressor.trials import (
    SHARES,
    Question,
    Trial,
    document_questions,
    hop_questions,
    made_up_document_questions,
    trials,
)
from benchmarks.report import Claim, Options, at_most, bootstrap, skipped

DOCUMENTS, HOPS, AGAINST_PEERS = "reader_documents", "reader_hops", "reader_against_peers"
CALIBRATION, FLOOR, FORMATS = "quality_ece", "quality_floor_0.9", "quality_ece_formats"
CLAIMS = [DOCUMENTS, HOPS, AGAINST_PEERS, CALIBRATION, FLOOR, FORMATS]
FILE = Path(".cache/benchmarks/answers.jsonl")
QUESTIONS, SIZED_QUESTIONS = 700, 250
"""Answered at one size, of which 700 give +-3.3 points, and at all sizes."""
LOOKUPS = 80
"""Of JSON, XML and logs each."""
PACKAGE_QUESTIONS = 20
"""Where peers that are packages run too: they take half a minute each."""
LARGE_SHARE, PEER_SHARE = 0.6, 0.4
LEAST_REDUCTION = 0.40
LOWEST_MEAN, LOWEST_LIMIT = -1.0, -3.0
LARGEST_ERROR = 0.05
LEAST_CHANCE, MOST_LOSS = 0.9, 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Who reads."""
    parser.add_argument(
        "--reader",
        metavar="SOURCE",
        default=MODEL,
        help="model whose answers count: a hub id, a directory, a .gguf file; default %(default)s",
    )
    parser.add_argument(
        "--reader-dtype",
        metavar="TYPE",
        default="int8",
        choices=("int8", "float32", "bfloat16"),
        help="what it is run as; bfloat16 is the quickest on processors with AMX; default %(default)s",
    )


def measure(options: Options) -> Iterable[Claim]:
    wanted = [claim for claim in CLAIMS if options.wants(claim)]
    if not wanted:
        return
    if not options.data and not options.is_smoke:
        yield from (skipped(name, "", "", "no data") for name in wanted)
        return
    with tempfile.TemporaryDirectory() as scratch, _reader(options, Path(scratch)) as reader:
        if FORMATS in wanted:
            yield formats_calibrated(list(format_trials(_lookups(options), reader)))
        if set(wanted) - {HOPS, FORMATS}:
            found = list(trials(_documents(options), reader, limit=SIZED_QUESTIONS))
            if DOCUMENTS in wanted:
                large = trials(_documents(options), reader, shares=[LARGE_SHARE], limit=QUESTIONS)
                yield paired(DOCUMENTS, list(large), found, reader)
            if AGAINST_PEERS in wanted:
                yield _beside_peers(found, list(_documents(options)), reader, with_packages=options.has_peers)
            if CALIBRATION in wanted:
                yield calibrated(found)
            if FLOOR in wanted:
                yield at_floor(
                    list(trials(_documents(options), reader, shares=[LARGE_SHARE], floor=LEAST_CHANCE, limit=QUESTIONS))
                )
        if HOPS in wanted and options.data:
            found = list(trials(hop_questions(options.data), reader, limit=QUESTIONS))
            yield paired(HOPS, [trial for trial in found if trial.share == LARGE_SHARE], found, reader)


def _reader(options: Options, scratch: Path) -> Reader:
    if options.is_smoke:
        # Takes seconds to import, and only the smallest size needs it.
        from tests.support.tiny_model import make_tiny_model

        return Reader(scratch / "answers.jsonl", model=str(make_tiny_model(scratch / "tiny")))
    return Reader(FILE, model=options.extra.reader, dtype=options.extra.reader_dtype)


def _documents(options: Options) -> Iterator[Question]:
    if options.is_smoke or not options.data:
        return made_up_document_questions()
    return document_questions(options.data, is_held_out=True, limit=QUESTIONS)


def _lookups(options: Options) -> Iterator[Lookup]:
    if options.is_smoke or not options.data:
        return made_up_lookups()
    return real_lookups(options.data, is_held_out=True, limit=LOOKUPS)


def paired(name: str, own: Sequence[Trial], found: Sequence[Trial], reader: Reader) -> Claim:
    """Right answers with compression less right answers without, in points, over the same questions: `own` at the
    size that counts, `found` at all sizes."""
    value, low, high = _difference(own)
    reduction = statistics.mean(trial.reduction for trial in own)
    sizes = []
    for share in SHARES:
        at = [trial for trial in found if trial.share == share]
        less, (mean, lowest, highest) = statistics.mean(trial.reduction for trial in at), _difference(at)
        lost = sum(trial.was_right and not trial.is_right for trial in at)
        sizes.append(f"{less:.0%} fewer: {mean:+.1f} [{lowest:+.1f}, {highest:+.1f}], {lost} of {len(at)} lost")
    right = statistics.mean(trial.was_right for trial in own)
    return Claim(
        name=name,
        value=value,
        unit="points",
        bar=f">= {LOWEST_MEAN:g}, low >= {LOWEST_LIMIT:g}, {LEAST_REDUCTION:.0%} fewer",
        holds=value >= LOWEST_MEAN and low >= LOWEST_LIMIT and reduction >= LEAST_REDUCTION,
        low=low,
        high=high,
        detail=f"{len(own)} questions, {reduction:.1%} fewer, {right:.1%} right without; "
        f"{'; '.join(sizes)}; {reader.name}",
    )


def _difference(found: Sequence[Trial]) -> tuple[float, float, float]:
    points = [100.0 * (trial.is_right - trial.was_right) for trial in found]
    return (statistics.mean(points), *bootstrap(points))


def _beside_peers(
    found: Sequence[Trial], questions: Sequence[Question], reader: Reader, *, with_packages: bool
) -> Claim:
    if not with_packages:
        return against_peers(found, questions, reader, PEERS)
    try:
        with llmlingua_peer.LongLLMLingua(reader.directory) as package:
            peers = {**PEERS, llmlingua_peer.NAME: package}
            return against_peers(found[: PACKAGE_QUESTIONS * len(SHARES)], questions, reader, peers)
    except llmlingua_peer.NoPeer as error:
        return skipped(AGAINST_PEERS, "", "> 0", f"{llmlingua_peer.NAME}: {error}")


def against_peers(
    found: Sequence[Trial], questions: Sequence[Question], reader: Reader, peers: Mapping[str, Peer]
) -> Claim:
    """Right answers of ours less those of the best peer, at the same tokens for each question."""
    own = [trial for trial in found if trial.share == PEER_SHARE]
    tokens = Tokens(count=reader.count_one, decode=reader.decode)
    right: dict[str, list[bool]] = {name: [] for name in peers}
    kept: dict[str, list[bool]] = {name: [] for name in peers}
    for trial in own:
        prompt, question = asked(trial.prompt), questions[trial.question]
        budget = reader.count_one(trial.sent) - reader.count_one(prompt.around(""))
        texts = [prompt.around(peer(prompt, budget, tokens, reader.information)) for peer in peers.values()]
        for name, text, answer in zip(peers, texts, reader.answers(texts), strict=True):
            right[name].append(question.is_right(answer))
            kept[name].append(question.is_right(text))
    best = max(peers, key=lambda name: sum(right[name]))
    points = [100.0 * (trial.is_right - other) for trial, other in zip(own, right[best], strict=True)]
    low, high = bootstrap(points)
    rates = ", ".join(
        f"{name} {statistics.mean(right[name]):.1%} (answer in {statistics.mean(kept[name]):.0%})" for name in peers
    )
    held = statistics.mean(questions[trial.question].is_right(trial.sent) for trial in own)
    ours, whole = (statistics.mean(getattr(trial, one) for trial in own) for one in ("is_right", "was_right"))
    return Claim(
        name=AGAINST_PEERS,
        value=statistics.mean(points),
        unit="points over the best",
        bar="> 0",
        holds=statistics.mean(points) > 0,
        low=low,
        high=high,
        detail=f"{len(own)} questions; right: ours {ours:.1%} (answer in {held:.0%}), whole prompts {whole:.1%}, "
        f"{rates}; {reader.name}",
    )


def calibrated(found: Sequence[Trial]) -> Claim:
    """Over all sizes."""
    pairs = [(trial.score, trial.is_unchanged) for trial in found]
    curve = ", ".join(f"{one.predicted:.2f} -> {one.observed:.2f} ({one.count})" for one in reliability(pairs))
    detail = f"{len(pairs)} outcomes; chance alone {error_of_chance(pairs):.3f}; predicted -> observed: {curve}"
    return at_most(CALIBRATION, expected_error(pairs), "", LARGEST_ERROR, detail)


def formats_calibrated(found: Sequence[FormatTrial]) -> Claim:
    """Of lossless stages alone, over questions for one value of a payload."""
    told = []
    for stages in sorted({trial.rewritten_by for trial in found}):
        own = [trial for trial in found if trial.rewritten_by == stages]
        less, predicted, unchanged, was, now = (
            statistics.mean(getattr(trial, name) for trial in own)
            for name in ("reduction", "score", "is_unchanged", "was_right", "is_right")
        )
        told.append(
            f"{' + '.join(stages)} ({len(own)}): {less:.0%} fewer, right {was:.0%} -> {now:.0%}, "
            f"predicted {predicted:.2f}, came out {unchanged:.2f}"
        )
    pairs = [(trial.score, trial.is_unchanged) for trial in found]
    detail = f"{len(pairs)} outcomes; chance alone {error_of_chance(pairs):.3f}; {'; '.join(told)}"
    return at_most(FORMATS, expected_error(pairs), "", LARGEST_ERROR, detail)


def at_floor(found: Sequence[Trial]) -> Claim:
    """The share of changed outcomes among the prompts from which this floor let something be left out."""
    shorter = [trial for trial in found if trial.sent != trial.prompt]
    if not shorter:
        return skipped(FLOOR, "%", f"<= {MOST_LOSS:.0%}", f"none of {len(found)} choices was predicted so sure")
    passed = [100.0 * (not trial.is_unchanged) for trial in shorter]
    low, high = bootstrap(passed)
    less = statistics.mean(trial.reduction for trial in shorter)
    detail = f"{len(passed)} of {len(found)} prompts are sent shorter, with {less:.0%} fewer tokens"
    return at_most(FLOOR, statistics.mean(passed), "% changed", 100 * MOST_LOSS, detail, low=low, high=high)
