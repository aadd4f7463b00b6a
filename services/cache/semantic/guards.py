"""Why two questions that look alike must not share an answer: one named rule each, over two texts. Pure.

A guard objects to a pair, whatever its similarity. It may object too often, which costs a hit; what it lets through is
the error bound's business. `first_objection` gives the first that objects, in the order of `GUARDS`.
"""

from __future__ import annotations

from collections.abc import Callable

from services.cache.semantic.lexicon import NEGATING_PREFIXES, OPPOSITES
from services.cache.semantic.verdict import Decider
from services.cache.semantic.words import Words

_LARGEST_LENGTH_RATIO = 3.0
_LENGTH_SLACK_WORDS = 4
_LEAST_OVERLAP_FOR_ORDER = 0.6
_SHORTEST_NEGATED = 3
_INTERCHANGEABLE_KINDS = frozenset({"", "open"})

Guard = Callable[[Words, Words], bool]
"""True where the pair must not share an answer."""


def numbers_differ(a: Words, b: Words) -> bool:
    """Each number must be in both, as often: "in 2023" is not "in 2024"."""
    return a.numbers != b.numbers


def polarity_differs(a: Words, b: Words) -> bool:
    """One is negated and the other is not, or a word stands against its opposite."""
    if a.negation_count % 2 != b.negation_count % 2:
        return True
    only_a, only_b = set(a.tokens) - set(b.tokens), set(b.tokens) - set(a.tokens)
    return _are_opposed(only_a, only_b) or _is_negated_by_prefix(only_a, only_b)


def names_differ(a: Words, b: Words) -> bool:
    """Whoever or whatever one text names must be in the other: "flights to Rome" is not "flights to Oslo"."""
    return bool(a.names - _mentioned(b)) or bool(b.names - _mentioned(a))


def units_differ(a: Words, b: Words) -> bool:
    """The same units of measure, time and money."""
    return a.units != b.units


def order_differs(a: Words, b: Words) -> bool:
    """Nearly the same words in another order: "from York to Leeds" is not "from Leeds to York"."""
    shared = set(a.stems) & set(b.stems)
    if len(shared) < 2 or len(shared) < _LEAST_OVERLAP_FOR_ORDER * len(set(a.stems) | set(b.stems)):
        return False
    return _first_places(a.stems, shared) != _first_places(b.stems, shared)


def languages_differ(a: Words, b: Words) -> bool:
    """The answer follows the question's language and script."""
    if a.script != b.script:
        return True
    return bool(a.language) and bool(b.language) and a.language != b.language


def lengths_differ(a: Words, b: Words) -> bool:
    """A much longer text holds conditions that a short one has not."""
    shorter, longer = sorted((len(a.tokens), len(b.tokens)))
    return longer > _LARGEST_LENGTH_RATIO * shorter + _LENGTH_SLACK_WORDS


def kinds_differ(a: Words, b: Words) -> bool:
    """When, where, who, why and how much ask for different things; what, how and which may ask for any."""
    kinds = {a.question_kind, b.question_kind} - _INTERCHANGEABLE_KINDS
    return len(kinds) > 1


GUARDS: tuple[tuple[Decider, Guard], ...] = (
    (Decider.GUARD_NUMBERS, numbers_differ),
    (Decider.GUARD_POLARITY, polarity_differs),
    (Decider.GUARD_ENTITIES, names_differ),
    (Decider.GUARD_UNITS, units_differ),
    (Decider.GUARD_WORD_ORDER, order_differs),
    (Decider.GUARD_LANGUAGE, languages_differ),
    (Decider.GUARD_LENGTH, lengths_differ),
    (Decider.GUARD_QUESTION_KIND, kinds_differ),
)


def first_objection(a: Words, b: Words) -> Decider | None:
    """The guard that forbids the pair, if one does. Symmetric."""
    return next((decider for decider, objects in GUARDS if objects(a, b)), None)


def _are_opposed(only_a: set[str], only_b: set[str]) -> bool:
    return any(
        (len(pair & only_a) == 1 and len(pair & only_b) == 1 and pair <= (only_a | only_b)) for pair in OPPOSITES
    )


def _is_negated_by_prefix(only_a: set[str], only_b: set[str]) -> bool:
    return any(
        prefix + word in ys
        for xs, ys in ((only_a, only_b), (only_b, only_a))
        for word in xs
        if len(word) >= _SHORTEST_NEGATED
        for prefix in NEGATING_PREFIXES
    )


def _mentioned(words: Words) -> set[str]:
    return set(words.tokens) | words.names | {token.replace("-", "") for token in words.tokens}


def _first_places(stems: tuple[str, ...], shared: set[str]) -> list[str]:
    """The shared words in the order in which they first come."""
    return list(dict.fromkeys(stem for stem in stems if stem in shared))
