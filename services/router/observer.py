"""What is told about each request while it runs. `observation.py` turns it into spans, metrics and logs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from enum import Enum
from typing import Protocol

from services.router.events import Accepted, Finished
from services.router.question import Question


class Regenerated(Enum):
    """What became of a stale answer that this router was to make anew."""

    DONE = "done"
    FAILED = "failed"
    """The stale one stays."""
    REFUSED = "refused"
    """There was no room."""


class Observer(Protocol):
    """Hears of a request's turning points; never raises, never blocks."""

    def accepted(self, accepted: Accepted) -> None:
        """The decision was made."""
        ...

    def first_token(self, ttft_s: float) -> None:
        """The first token's message is being sent."""
        ...

    def retried(self, instance_id: str, reason: str, attempt: int) -> None:
        """An attempt failed before its first token and another one follows."""
        ...

    def passed_over(self, what: str, reason: str) -> None:
        """The cache or the compressor could not help in its time; the request goes on without."""
        ...

    def finished(self, question: Question, accepted: Accepted, finished: Finished) -> None:
        """The last event is being sent."""
        ...

    def regenerating(self) -> AbstractContextManager[str]:
        """A stale answer is made anew while the block lasts; gives the trace id of that work, linked to the request."""
        ...

    def regenerated(self, outcome: Regenerated, reason: str = "", problem: Exception | None = None) -> None:
        """What became of it. `problem`: a bug."""
        ...

    def commit_failed(self, reason: str) -> None:
        """The cache did not take an answer; nothing is lost but the saving."""
        ...
