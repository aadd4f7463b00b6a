"""How long the event loop was held while something ran beside it, less the time its own thread had no processor."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable
from pathlib import Path


async def longest_hold_s(work: Awaitable[object]) -> float:
    """The longest gap between two turns of the loop in which its thread could have run, had the interpreter been free.

    Needs Linux, which counts how long a thread was ready and had no processor.
    """
    counts = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")

    def waited_s() -> float:
        return int(counts.read_bytes().split()[1]) / 1e9

    longest = before = 0.0
    done = asyncio.ensure_future(work)
    last, waited = time.perf_counter(), waited_s()
    while not done.done():
        await asyncio.sleep(0)
        waited_now, now = waited_s(), time.perf_counter()
        held = now - last - (waited_now - waited)
        # A wait that fell between the two readings shows one turn too late, as less than nothing.
        longest = max(longest, before + min(0.0, held))
        before, last, waited = held, now, waited_now
    await done
    return longest
