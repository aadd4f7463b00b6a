"""One growing answer: drawn tokens in, pieces of text out, and why it ended. Plain state, no waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshkit.coalescing import Piece
from services.inference.detokenizer import Detokenizer
from services.inference.engine.messages import FinishReason, PromptScored, TokenDrawn, TokenLogprob
from services.inference.stop_strings import Screened, StopStrings
from services.inference.text import TextModel
from services.inference.validation import CheckedRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScore:
    """A token, its text alone, and the natural logarithm of its probability."""

    token_id: int
    text: str
    logprob: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionScores:
    """The token at a position and the likeliest ones there."""

    drawn: TokenScore
    top: tuple[TokenScore, ...]


class Answer:
    """Feeds on the tokens of one sequence.

    A stop token ends the answer and is no part of it; it counts in `token_count`, since it was drawn. Tokens drawn
    while text is held back (half a character, perhaps a stop string) are given out with less text, or none.
    """

    def __init__(self, index: int, request: CheckedRequest, text: TextModel) -> None:
        self.index = index
        self.finish_reason: FinishReason | None = None
        self.stop_matched = ""
        self.token_count = 0
        self._request = request
        self._text = text
        self._detokenizer = Detokenizer(text.decode, request.spec.prompt_ids)
        self._stops = StopStrings(request.stop_strings)

    def add(self, drawn: TokenDrawn) -> Piece:
        """What this token adds; sets `finish_reason` when it is the last one."""
        self.token_count += 1
        if drawn.finish == "stop":
            return self._end_at_stop_token(drawn)
        screened = self._screen(self._detokenizer.add(drawn.token_id))
        text = screened.text
        if drawn.finish is not None and not screened.matched:
            text += self._release()
            self.finish_reason = self.finish_reason or drawn.finish
        return Piece(
            index=self.index,
            text=text,
            token_ids=(drawn.token_id,) if self._request.output.include_token_ids else (),
            logprobs=self._scores(drawn),
            token_count=1,
        )

    def _end_at_stop_token(self, drawn: TokenDrawn) -> Piece:
        text = self._release()
        if self.finish_reason is None:
            self.stop_matched = self._text.decode_all([drawn.token_id])
        self.finish_reason = "stop"
        return Piece(index=self.index, text=text)

    def _release(self) -> str:
        screened = self._screen(self._detokenizer.finish())
        return screened.text if screened.matched else screened.text + self._stops.finish()

    def _screen(self, text: str) -> Screened:
        """Stop strings count from `min_tokens` on, as in vLLM."""
        if self.token_count < self._request.spec.stopping.min_tokens:
            return Screened(text=text)
        screened = self._stops.add(text)
        if screened.matched:
            self.finish_reason, self.stop_matched = "stop", screened.matched
        return screened

    def _scores(self, drawn: TokenDrawn) -> tuple[PositionScores, ...]:
        if self._request.output.logprobs is None or drawn.logprob is None:
            return ()
        own = TokenLogprob(token_id=drawn.token_id, logprob=drawn.logprob)
        return (position_scores(own, drawn.top, self._text),)


def prompt_scores(scored: PromptScored, text: TextModel) -> tuple[PositionScores, ...]:
    """The scores of a prompt's tokens from the second on."""
    return tuple(position_scores(drawn, top, text) for drawn, top in zip(scored.drawn, scored.top, strict=True))


def position_scores(drawn: TokenLogprob, top: Sequence[TokenLogprob], text: TextModel) -> PositionScores:
    """With the text of each token."""
    return PositionScores(drawn=_score(drawn, text), top=tuple(_score(one, text) for one in top))


def _score(one: TokenLogprob, text: TextModel) -> TokenScore:
    return TokenScore(token_id=one.token_id, text=text.decode_all([one.token_id]), logprob=one.logprob)
