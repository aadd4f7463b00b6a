"""The threads that wait for the disk, so that the event loop never does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class OneThread:
    """Runs calls one after the other, beside the event loop."""

    def __init__(self, name: str) -> None:
        self.waiting_count = 0
        """Calls that have not ended, whether or not somebody still waits for them."""
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, call: Callable[[], T], timeout_s: float) -> T:
        """The call's result. Raises TimeoutError; a call that has begun then goes on, one that has not is dropped."""
        self.waiting_count += 1
        ended = self._executor.submit(call)
        loop = asyncio.get_running_loop()
        ended.add_done_callback(lambda _: loop.call_soon_threadsafe(self._ended))
        async with asyncio.timeout(timeout_s):
            return await asyncio.wrap_future(ended)

    def close(self) -> None:
        """Take no more calls; what has begun goes on."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _ended(self) -> None:
        self.waiting_count -= 1
