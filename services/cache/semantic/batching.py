"""When texts are embedded: together with those that come within a few milliseconds, in one thread, off the event loop.

The libraries that do the work let go of the interpreter while they do it, so a thread is enough; a test measures it.
At most so many texts wait; a caller beyond that is told at once, since an answer that waits for its cache is lost time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from meshkit.embedding.minilm import EmbeddingModel, TooLong

_Waiting = tuple[str, "asyncio.Future[Any]"]


class TooManyWaiting(Exception):
    """The queue is full."""


class BatchedEmbedder:
    """Embeds for many callers at a time. `run` must run for anything to be embedded."""

    def __init__(self, model: EmbeddingModel, *, window_s: float, max_batch: int, max_waiting: int) -> None:
        self._model = model
        self._window_s = window_s
        self._max_batch = max_batch
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue(max_waiting)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embed")

    @property
    def waiting_count(self) -> int:
        return self._waiting.qsize()

    async def embed(self, text: str) -> Any:
        """A unit vector. Raises TooManyWaiting, TooLong, and what the model raises."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((text, done))
        except asyncio.QueueFull:
            raise TooManyWaiting from None
        return await done

    async def run(self) -> None:
        """Embed what waits. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        batch: list[_Waiting] = []
        try:
            while True:
                batch = await self._next_batch()
                texts = [text for text, _ in batch]
                try:
                    vectors = await loop.run_in_executor(self._thread, self._model.embed, texts)
                except Exception as error:
                    vectors = [error] * len(batch)
                _tell(batch, vectors)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            while not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            for _, done in batch:
                done.cancel()

    async def _next_batch(self) -> list[_Waiting]:
        """The first that waits, and those that come within the window; those whose caller left are dropped."""
        batch = [await self._waiting.get()]
        if self._waiting.empty():
            await asyncio.sleep(self._window_s)
        while len(batch) < self._max_batch and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        return [one for one in batch if not one[1].done()]


def _tell(batch: Sequence[_Waiting], results: Sequence[Any]) -> None:
    for (_, done), result in zip(batch, results, strict=True):
        if done.done():
            continue
        if isinstance(result, TooLong | Exception):
            done.set_exception(result)
        else:
            done.set_result(result)
