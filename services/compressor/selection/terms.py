"""The words of a text as selection compares them: one spelling each, no endings, in scripts with and without blanks.

Scripts that are written without blanks between words become overlapping pairs of characters, which finds words without
a dictionary. Vowel points and other marks of Arabic, Hebrew and accented Latin are dropped, as people leave them out.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3040-\u30ff\u31f0-\u31ff"  # Japanese syllables
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
)
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+(?:['’][^\W_{_UNSPACED}]+)?")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_ARABIC_SPELLINGS = str.maketrans({"أ": "ا", "إ": "ا", "آ": "ا", "ى": "ي", "ة": "ه", "ـ": None})
_SHORTEST_STEM = 3
_REMEMBERED_WORDS = 50_000


def word_set(words: str) -> frozenset[str]:
    """Words apart by blanks."""
    return frozenset(words.split())


STOP_WORDS = word_set(
    "a about above after again all also am an and any are as at be because been before being below between both but by"
    " can could did do does doing down during each either else ever few for from further get got had has have having he"
    " her here hers him his how i if in into is it its just let like may me might more most much must my no nor not now"
    " of off on once only or other our out over own per please same shall she should so some such tell than that the"
    " their them then there these they this those through to too under until up upon us very was we were what when"
    " where which while who whom whose why will with would you your"
)


def terms(text: str) -> list[str]:
    """Every word in order, stop words too."""
    found: list[str] = []
    for word in _WORD.findall(_CAMEL.sub(" ", text)):
        if _IS_UNSPACED.match(word):
            found += [word[i : i + 2] for i in range(max(1, len(word) - 1))]
        else:
            found.append(_normal(word))
    return found


def content_terms(text: str) -> list[str]:
    """Those that say what a text is about; all of them where it has no other."""
    every = terms(text)
    return [term for term in every if term not in STOP_WORDS] or every


@lru_cache(maxsize=_REMEMBERED_WORDS)
def _normal(word: str) -> str:
    """One spelling of a word: no case, no marks, no commonest ending."""
    plain = word.casefold()
    if not plain.isascii():
        plain = _without_marks(plain)
    plain = re.split("['’]", plain, maxsplit=1)[0] or plain
    if plain.startswith("ال") and len(plain) > _SHORTEST_STEM + 1:
        return plain[2:]
    return plain if plain in STOP_WORDS else stem(plain)


def stem(word: str) -> str:
    """Without an ending of number or tense; enough to bring "studies" and "studied" together."""
    if not word.isascii() or len(word) <= _SHORTEST_STEM or not word.isalpha():
        return word
    for ending, instead in (("ies", "y"), ("ied", "y"), ("sses", "ss"), ("ing", ""), ("ed", ""), ("ly", "")):
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return _open_end(word[: -len(ending)] + instead)
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    return _open_end(word)


def _open_end(word: str) -> str:
    """The e that "making" lost, and the n that "running" doubled."""
    if len(word) > _SHORTEST_STEM + 1 and word[-1] == word[-2] and word[-1] not in "aeiouls":
        return word[:-1]
    return word[:-1] if word.endswith("e") and len(word) > _SHORTEST_STEM else word


def _without_marks(word: str) -> str:
    opened = unicodedata.normalize("NFKD", word.translate(_ARABIC_SPELLINGS))
    return unicodedata.normalize("NFKC", "".join(letter for letter in opened if not unicodedata.combining(letter)))
