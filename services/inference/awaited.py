"""Questions to the engine under way: each has an id, and is answered under it, or ends with the engine."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Generic, TypeVar

from meshkit.errors import BackendDown

T = TypeVar("T")


class Awaited(Generic[T]):
    """Those that the engine has not answered yet."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[T]] = {}

    async def ask(self, send: Callable[[int], None]) -> T:
        """Send a question with the id that it is given; its answer. Raises BackendDown when the engine dies first."""
        question_id = next(self._ids)
        self._waiting[question_id] = asyncio.get_running_loop().create_future()
        send(question_id)
        try:
            return await self._waiting[question_id]
        finally:
            self._waiting.pop(question_id, None)

    def answer(self, question_id: int, value: T) -> None:
        """Answers to questions that nobody waits for any more go nowhere."""
        waiting = self._waiting.get(question_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(value)

    def fail_all(self, told: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(BackendDown(told))
