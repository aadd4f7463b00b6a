"""Stop strings across token borders: where an answer ends, and how much of it must wait to know.

Text is held back only while it may be the head of a stop string; the longest such tail is held and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """Text that may be shown now, and the stop string that was met, if one was."""

    text: str
    matched: str = ""


class StopStrings:
    """Screens one answer's text. After a match nothing more may be added."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def add(self, text: str) -> Screened:
        """Screen more text; a match cuts it just before the stop string that was complete first."""
        if not self._stops:
            return Screened(text=text)
        text = self._held + text
        begin, matched = self._first_match(text)
        if matched:
            self._held = ""
            return Screened(text=text[:begin], matched=matched)
        held_count = max(_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - held_count :]
        return Screened(text=text[: len(text) - held_count])

    def finish(self) -> str:
        """What was held back and turned out not to be a stop string."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, str]:
        """The match that ends first, so that the answer doesn't depend on how the text was cut into tokens."""
        found = [(begin, stop) for stop in self._stops if (begin := text.find(stop)) >= 0]
        return min(found, key=lambda match: (match[0] + len(match[1]), match[0]), default=(-1, ""))


def _overlap(text: str, stop: str) -> int:
    """Length of the longest tail of `text` that is a proper head of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((count for count in range(longest, 0, -1) if text.endswith(stop[:count])), 0)
