"""When two answers count as the same: the one place that labels a pair of questions as interchangeable or not.

The same text after normalisation, or texts so alike that they say the same: embeddings nearly equal and no guard
objecting, so that two answers with different numbers, names or polarity never pass. Tool calls must be equal to the
letter. Strict on purpose: a wrong "same" teaches the bound to lie, a wrong "different" only costs hits.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from services.cache.semantic.guards import first_objection
from services.cache.semantic.words import Words

LEAST_SIMILARITY = 0.95
"""Cosine of two answers that say the same."""
LONGEST_COMPARED_CHARS = 2_000
"""Longer answers are the same only where their texts are."""
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerText:
    """What an answer says, for comparing."""

    text: str
    tool_calls: str = ""
    """All tool calls in one canonical text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerPrint:
    """As much of an answer as comparing takes."""

    digest: bytes
    """Of the normalised text and the tool calls."""
    text: str = ""
    """Empty where the texts must be equal: too long, or with tool calls."""
    vector: Any = None
    """Unit vector of `text`, where it was made."""


def answer_print(answer: AnswerText) -> AnswerPrint:
    """Without a vector, which costs time."""
    normal = normalised(answer.text)
    digest = hashlib.blake2b(f"{len(normal)}:{normal}{answer.tool_calls}".encode(), digest_size=16).digest()
    is_short = not answer.tool_calls and len(normal) <= LONGEST_COMPARED_CHARS
    return AnswerPrint(digest=digest, text=normal if is_short else "")


def same_answer(a: AnswerPrint, b: AnswerPrint) -> bool:
    """Whether either could be given for both questions. Symmetric."""
    if a.digest == b.digest:
        return True
    if a.vector is None or b.vector is None:
        return False
    if float(a.vector @ b.vector) < LEAST_SIMILARITY:
        return False
    return first_objection(Words(a.text), Words(b.text)) is None


def normalised(text: str) -> str:
    """One spelling for what differs in spacing, form of characters or the closing full stop only."""
    return _SPACES.sub(" ", unicodedata.normalize("NFKC", text)).strip().rstrip(".")
