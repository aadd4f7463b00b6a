"""What a prompt says twice: repeated sentences and blocks, and blocks that differ in a few words only.

The first stays. Texts that differ in a number or a negation say different things, however alike they are.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from services.compressor.selection.candidates import Candidate
from services.compressor.selection.segments import Kind
from services.compressor.selection.terms import terms, word_set

_SHORTEST = 8
"""Terms; what is shorter may be repeated for a reason, such as "yes" or a name."""
_SHINGLE = 4
_SKETCH = 8
_MOST_SHARING = 64
"""Blocks with one hash in common; in a text with more, such as a log, only exact repeats are found by that hash."""
_LEAST_SHARED = 0.9
_NUMBER = re.compile(r"\d+(?:[.,:/-]\d+)*")
_NEGATIONS = word_set("no not never none nor neither without cannot")


def repeated(all_candidates: Sequence[Candidate]) -> dict[int, int]:
    """Of each candidate that repeats an earlier one, which. Pinned candidates repeat nothing, but may be repeated."""
    found = _repeated_exactly(all_candidates)
    found |= _nearly_repeated(all_candidates, found)
    return found


def _repeated_exactly(all_candidates: Sequence[Candidate]) -> dict[int, int]:
    first: dict[str, int] = {}
    found: dict[int, int] = {}
    for number, one in enumerate(all_candidates):
        spelled = " ".join(one.text.split())
        if one.kind is Kind.HEADING or len(terms(spelled)) < _SHORTEST:
            continue
        if spelled not in first:
            first[spelled] = number
        elif one.is_open:
            found[number] = first[spelled]
    return found


def _nearly_repeated(all_candidates: Sequence[Candidate], exact: Mapping[int, int]) -> dict[int, int]:
    blocks: dict[int, list[int]] = defaultdict(list)
    for number, one in enumerate(all_candidates):
        if one.kind is not Kind.HEADING:
            blocks[one.block].append(number)
    by_hash: dict[int, list[int]] = defaultdict(list)
    shingled: dict[int, frozenset[int]] = {}
    found: dict[int, int] = {}
    for block, members in blocks.items():
        if any(all_candidates[n].kind is Kind.WHOLE for n in members):
            continue
        shingles = _shingles(" ".join(all_candidates[n].text for n in members))
        if not shingles:
            continue
        sketch = sorted(shingles)[:_SKETCH]
        alike = Counter(other for one in sketch if len(by_hash[one]) <= _MOST_SHARING for other in by_hash[one])
        is_open = all(all_candidates[n].is_open for n in members)
        original = next((other for other in sorted(alike) if _is_same(shingles, shingled[other])), None)
        if original is not None and is_open and _same_facts(all_candidates, members, blocks[original]):
            found |= {number: blocks[original][0] for number in members if number not in exact}
            continue
        shingled[block] = shingles
        for part in sketch:
            by_hash[part].append(block)
    return found


def _shingles(text: str) -> frozenset[int]:
    """Hashes of every few words in a row, the same in every process."""
    found = terms(text)
    if len(found) < 2 * _SHORTEST:
        return frozenset()
    return frozenset(zlib.crc32(" ".join(found[i : i + _SHINGLE]).encode()) for i in range(len(found) - _SHINGLE + 1))


def _is_same(shingles: frozenset[int], others: frozenset[int]) -> bool:
    return len(shingles & others) >= _LEAST_SHARED * max(len(shingles), len(others))


def _same_facts(all_candidates: Sequence[Candidate], some: Sequence[int], others: Sequence[int]) -> bool:
    return _facts(all_candidates, some) == _facts(all_candidates, others)


def _facts(all_candidates: Sequence[Candidate], numbers: Sequence[int]) -> Counter[str]:
    text = " ".join(all_candidates[number].text for number in numbers)
    negations = (word for word in terms(text) if word in _NEGATIONS)
    return Counter([*_NUMBER.findall(text), *negations, *("not" for _ in re.findall(r"n['’]t\b", text))])
