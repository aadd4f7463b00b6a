"""How a text looks to the guards: its words, numbers, units, names, negations, script and kind of question. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from services.cache.semantic.lexicon import (
    FUNCTION_WORDS,
    NAMES,
    NEGATIONS,
    NUMBER_WORDS,
    UNITS,
    UNSPECIFIC_NUMBERS,
)

_TOKEN = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:['’-][^\W\d_]+)*|[$€£¥₹%]|°[cCfF]")
_NUMBER = re.compile(r"\d")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n\"“(\[])\s*$")
_CODE = re.compile(r"[A-Za-z]+[-_.]?\d[\w.-]*|\b[a-z]+[A-Z]\w*")
_QUOTED = re.compile(r"\"([^\"]{1,80})\"|“([^”]{1,80})”|`([^`]{1,80})`")
_SUFFIXES = ("ing", "ed", "es", "s", "ly")
_SHORTEST_STEM = 3
_LEAST_FUNCTION_WORDS = 2
_JUDGED_CHARS = 400

_QUESTION_KINDS = (
    ("quantity", r"\bhow (?:many|much|old|far|tall|big|high|heavy|large)\b|\b(?:number|amount|price|cost) of\b"),
    ("time", r"\bwhen\b|\bwhat (?:time|date|day|year)\b|\bhow (?:long|soon|often)\b"),
    ("place", r"\bwhere\b"),
    ("person", r"\bwho(?:m|se)?\b"),
    ("reason", r"\bwhy\b|\bhow come\b|\breasons? (?:for|why)\b"),
    ("open", r"\b(?:what|how|which)\b"),
)
_KIND_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _QUESTION_KINDS)


@dataclass(frozen=True)
class Words:
    """One text. What is costly is worked out once, on first use."""

    text: str

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """Lower case, in order, contractions opened: "can't" is "can", "not"."""
        plain = self.text.replace("’", "'").lower()
        return tuple(word for token in _TOKEN.findall(plain) for word in _opened(token))

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """Content words without their commonest endings, in order."""
        return tuple(stem(token) for token in self.tokens if token not in FUNCTION_WORDS["en"])

    @cached_property
    def numbers(self) -> Counter[str]:
        """Each number once per mention, in one spelling."""
        found = [_plain_number(token) for token in self.tokens if _NUMBER.match(token)]
        spelled = [NUMBER_WORDS[token] for token in self.tokens if token in NUMBER_WORDS]
        return Counter(found + [number for number in spelled if number not in UNSPECIFIC_NUMBERS])

    @cached_property
    def units(self) -> frozenset[str]:
        """Units of measure and money."""
        return frozenset(UNITS[token] for token in self.tokens if token in UNITS)

    @cached_property
    def negation_count(self) -> int:
        return sum(token in NEGATIONS for token in self.tokens)

    @cached_property
    def names(self) -> frozenset[str]:
        """Words that name something: capitalised inside a sentence, spelled as codes, quoted, or known names."""
        capitalised = {
            match.group().lower().removesuffix("'s")
            for match in _TOKEN.finditer(self.text)
            if match.group()[0].isupper() and not _is_ordinary(match, self.text)
        }
        codes = {code.lower() for code in _CODE.findall(self.text)}
        quoted = {next(filter(None, groups)).lower() for groups in _QUOTED.findall(self.text)}
        known = {token for token in self.tokens if token in NAMES}
        return frozenset(capitalised | codes | quoted | known)

    @cached_property
    def script(self) -> str:
        """The script of most letters, such as LATIN; empty where there are none."""
        known = (unicodedata.name(letter, "?") for letter in self.text[:_JUDGED_CHARS] if letter.isalpha())
        letters = Counter(name.partition(" ")[0] for name in known)
        return letters.most_common(1)[0][0] if letters else ""

    @cached_property
    def language(self) -> str:
        """By function words; empty where they do not tell."""
        counts = {language: sum(token in words for token in self.tokens) for language, words in FUNCTION_WORDS.items()}
        (first, most), (_, second) = Counter(counts).most_common(2)
        return first if most >= _LEAST_FUNCTION_WORDS and most > second else ""

    @cached_property
    def question_kind(self) -> str:
        """What the question asks for; empty where nothing tells."""
        plain = self.text.lower()
        return next((kind for kind, pattern in _KIND_PATTERNS if pattern.search(plain)), "")


def stem(word: str) -> str:
    """The word without its commonest ending: enough to know a plural or a past tense again."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            return word.removesuffix(suffix)
    return word


def _opened(token: str) -> tuple[str, ...]:
    if token == "can't":
        return ("can", "not")
    if token.endswith("n't"):
        return (token.removesuffix("n't"), "not")
    head, mark, _ = token.partition("'")
    return (head,) if mark and head else (token,)


def _plain_number(token: str) -> str:
    """1,000 and 1000 are one number, and so are 2.50 and 2.5; 3:30 and 1/2 stay as they are."""
    plain = re.sub(r",(?=\d{3}\b)", "", token)
    whole, dot, fraction = plain.partition(".")
    if not dot or "." in fraction:
        return plain.lstrip("0") or "0"
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole


def _is_ordinary(match: re.Match[str], text: str) -> bool:
    """A capital that says nothing: at the start of a sentence, in "I", or in a text that shouts."""
    word = match.group()
    if word.split("'")[0] in ("I", "A") or text.isupper():
        return True
    return bool(_SENTENCE_START.search(text[: match.start()])) and not word.isupper()
