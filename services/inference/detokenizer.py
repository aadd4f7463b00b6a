"""Token ids of a growing answer to text that can be shown: never half a character.

A token may hold part of a character (an emoji is often three or four tokens), and some decoders show a token
differently at the head of a text than in its middle (a leading space is dropped). So a short window of tokens is
decoded again each time, and only what was added and can't change any more is given out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
MAX_PENDING_TOKENS = 16
"""A character needs at most 4 tokens; a longer run that decodes to nothing valid is given out as it is."""
CONTEXT_TOKENS = 5
"""Tokens of the prompt's end that decide how the first token is shown; 5 as in text-generation-inference."""


class Detokenizer:
    """Feeds on one answer's tokens. `decode` turns ids into text, without special tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str], prompt_ids: Sequence[int] = ()) -> None:
        self._decode = decode
        self._window = list(prompt_ids[-CONTEXT_TOKENS:])
        self._shown = decode(self._window) if self._window else ""
        if self._shown.endswith(INCOMPLETE):
            self._window, self._shown = [], ""
        self._pending_count = 0

    def add(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        self._window.append(token_id)
        self._pending_count += 1
        text = self._decode(self._window)
        is_whole = not text.endswith(INCOMPLETE)
        added = self._take(text if is_whole else text.rstrip(INCOMPLETE))
        if self._pending_count >= MAX_PENDING_TOKENS:
            return added + self.finish()
        if is_whole and added:
            self._window = self._window[-self._pending_count :]
            self._shown = self._decode(self._window)
            self._pending_count = 0
        return added

    def finish(self) -> str:
        """What is still held back: replacement characters for what never became whole."""
        text = self._decode(self._window)
        if not text.startswith(self._shown):
            self._shown, text = "", self._decode(self._window[-self._pending_count :])
        added = self._take(text) if self._pending_count else ""
        self._window, self._shown, self._pending_count = [], "", 0
        return added

    def _take(self, text: str) -> str:
        if not text.startswith(self._shown):
            return ""
        added = text[len(self._shown) :]
        self._shown = text
        return added
