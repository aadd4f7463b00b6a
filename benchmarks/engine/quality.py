"""What int8 loses on a held text, teacher-forced: every likelihood of ours beside plain transformers in float32.

The text is the project's own prose and code, cut into pieces that are prompts of their own. Nothing in the engine is
fitted to any text.
"""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer

from benchmarks.engine.our_engine import OurEngine
from benchmarks.engine.peers.process import ROOT
from benchmarks.engine.setup import Setup
from benchmarks.report import Claim, at_least, at_most, skipped

PERPLEXITY_CLAIM, TOP1_CLAIM = "int8_perplexity", "int8_top1"
CLAIMS = (PERPLEXITY_CLAIM, TOP1_CLAIM)
PERPLEXITY_BAR, TOP1_BAR = 1.0, 97.0
PIECES, PIECE_TOKENS = 8, 512
SOURCES = ("ARCHITECTURE.md", "docs/operating.md", "services/router/relay.py", "docs/end-to-end.md", "CONTRIBUTING.md")
REFERENCE = "benchmarks.engine.reference"

Scores = tuple[list[float], list[int]]
"""Of each token but the first: its log-probability, and the likeliest token in its place."""


def int8_loss(setup: Setup, engine: OurEngine) -> Iterator[Claim]:
    """Perplexity and agreement of the likeliest token, over all pieces."""
    pieces = held_pieces(setup)
    if setup.engine["quantization"] != "int8" or not pieces:
        reason = "the model has no tokenizer" if not pieces else "the engine does not run in int8"
        yield skipped(PERPLEXITY_CLAIM, "% off", f"<= {PERPLEXITY_BAR:g}", reason)
        yield skipped(TOP1_CLAIM, "% alike", f">= {TOP1_BAR:g}", reason)
        return
    ours = [engine.score(piece) for piece in pieces]
    exact = _reference(setup, pieces)
    count = sum(len(likeliest) for _, likeliest in exact)
    alike = sum(_alike(one, other) for one, other in zip(ours, exact, strict=True))
    agreement = 100 * alike / count
    off = 100 * (_perplexity(ours) / _perplexity(exact) - 1)
    detail = f"{count} positions of the project's own prose and code; {engine.in_words}"
    exact_words = f"perplexity {_perplexity(exact):.2f} in float32, {_perplexity(ours):.2f} in int8; {detail}"
    yield at_most(PERPLEXITY_CLAIM, abs(off), "% off", PERPLEXITY_BAR, f"{off:+.2f} %; {exact_words}")
    margin = 196 * math.sqrt(alike / count * (1 - alike / count) / count)
    yield at_least(
        TOP1_CLAIM, agreement, "% alike", TOP1_BAR, detail, low=agreement - margin, high=min(100.0, agreement + margin)
    )


def held_pieces(setup: Setup) -> list[list[int]]:
    """Prompts of equal length from the sources' texts; fewer, and shorter ones, on the smallest size."""
    file = setup.model_dir / "tokenizer.json"
    if not file.exists():
        return []
    text = "\n".join((ROOT / source).read_text(encoding="utf-8") for source in SOURCES)
    ids = Tokenizer.from_file(str(file)).encode(text, add_special_tokens=False).ids
    length, most = (64, 1) if setup.is_smoke else (PIECE_TOKENS, PIECES)
    return [ids[first : first + length] for first in range(0, len(ids) - length + 1, length)][:most]


def _reference(setup: Setup, pieces: Sequence[Sequence[int]]) -> list[Scores]:
    """The same by plain transformers, in a process of its own."""
    command = [str(setup.transformers_python), "-m", REFERENCE, str(setup.model_dir.absolute()), str(setup.cores)]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(pieces), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{REFERENCE} failed: {done.stderr.strip().splitlines()[-1]}")
    return [(logprobs, likeliest) for logprobs, likeliest in json.loads(done.stdout)]


def _alike(one: Scores, other: Scores) -> int:
    return sum(a == b for a, b in zip(one[1], other[1], strict=True))


def _perplexity(scores: Sequence[Scores]) -> float:
    logprobs = [logprob for piece, _ in scores for logprob in piece]
    return math.exp(-sum(logprobs) / len(logprobs))
