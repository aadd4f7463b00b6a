"""Going on with an answer that somebody else began: the same answer is made again, and what was sent is left out.

Only repeatable requests are shared, so the new answer begins like the old one; where it does not, the caller must not
get a mixture of two.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from meshkit.coalescing import Piece
from meshkit.errors import BackendDown
from services.router.attempts import SourcedEvent
from services.router.ports import EngineFinished


class SentAnswer:
    """What a caller has of an answer, and how much of that a second making of it has come past."""

    def __init__(self) -> None:
        self.token_count = 0
        self._texts: list[str] = []
        self._text: str | None = None
        self._passed_tokens = 0
        self._passed_characters = 0

    def add(self, piece: Piece) -> None:
        """The caller got this."""
        self._texts.append(piece.text)
        self.token_count += piece.token_count

    @property
    def is_passed(self) -> bool:
        """Whether the second making has come to the end of what was sent."""
        return self._passed_tokens == self.token_count and self._passed_characters == len(self._sent_text())

    def new_part(self, piece: Piece) -> Piece | None:
        """What the caller has not got of the second making's next piece. Raises BackendDown where the two differ."""
        tokens = min(piece.token_count, self.token_count - self._passed_tokens)
        sent = self._sent_text()[self._passed_characters : self._passed_characters + len(piece.text)]
        if not piece.text.startswith(sent):
            raise self.differs()
        self._passed_tokens += tokens
        self._passed_characters += len(sent)
        if not tokens and not sent:
            return piece
        if tokens == piece.token_count and sent == piece.text:
            return None
        return replace(
            piece,
            text=piece.text[len(sent) :],
            token_ids=piece.token_ids[tokens:],
            logprobs=piece.logprobs[tokens:],
            token_count=piece.token_count - tokens,
        )

    def differs(self) -> BackendDown:
        """The error for an answer that can't be continued."""
        cause = "whoever made the answer has gone, and made again it differs"
        return BackendDown(cause, sent_token_count=self.token_count)

    def _sent_text(self) -> str:
        if self._text is None:
            self._text = "".join(self._texts)
        return self._text


async def resumed(source: AsyncGenerator[SourcedEvent, None], sent: SentAnswer) -> AsyncGenerator[SourcedEvent, None]:
    """The events of a second making, without what was sent. Closes the source."""
    try:
        async for holder, event in source:
            if isinstance(event, Piece):
                part = sent.new_part(event)
                if part is not None:
                    yield holder, part
                continue
            if isinstance(event, EngineFinished) and not sent.is_passed:
                raise sent.differs()
            yield holder, event
    finally:
        await source.aclose()
