"""What a million entries in the first tier occupy, by the memory of a process of its own, beside what was counted.

Answers are short (100 to 800 bytes), so that a million fit into little more than a GB: the harder case, since overhead
is then more than half. Measured when a million are in, and again after as many more had to push others out.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import subprocess
import sys

import psutil

from benchmarks.cache.stream import key_of
from benchmarks.cache.tiers import memory
from benchmarks.report import Claim, Options, at_most
from services.cache.entry import Entry
from services.cache.memory_tier import MemoryTier

CLAIM = "l1_million_entries"
ENTRY_COUNT, SMOKE_ENTRY_COUNT = 1_000_000, 20_000
BYTES_AN_ENTRY = 1250
BAR = 0.05


def memory_of_a_million(options: Options) -> Claim:
    """The larger of the two deviations of real memory from the count."""
    count = SMOKE_ENTRY_COUNT if options.is_smoke else ENTRY_COUNT
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cache.million", str(count)], capture_output=True, text=True, check=True
    )
    states = json.loads(done.stdout)
    worst = max(abs(state["real"] / state["counted"] - 1) for state in states)
    detail = "; ".join(
        f"{state['name']}: {state['entries']} entries, {state['real'] / 1e6:.0f} MB real, "
        f"{state['counted'] / 1e6:.0f} MB counted"
        for state in states
    )
    return at_most(CLAIM, worst, "off the count", BAR, detail)


async def _states(count: int) -> list[dict[str, object]]:
    chance = random.Random(1)
    gc.collect()
    before_bytes = psutil.Process().memory_info().rss
    tier = memory(count * BYTES_AN_ENTRY)
    await _put(tier, chance, range(count))
    filled = await _state("filled", tier, before_bytes)
    await _put(tier, chance, range(count, 2 * count))
    return [filled, await _state("after as many more", tier, before_bytes)]


async def _put(tier: MemoryTier, chance: random.Random, numbers: range) -> None:
    for number in numbers:
        entry = Entry(
            payload=bytes(chance.randint(100, 800)),
            stored_at=1.7e9 + number / 1000,
            fresh_until=9e9 + number,
            expires_at=9e9 + number + 1,
            epoch=1000 + number,
            revision="".join(("rev", "ision")),
        )
        await tier.put(key_of(number), entry)


async def _state(name: str, tier: MemoryTier, before_bytes: int) -> dict[str, object]:
    size = await tier.size()
    real_bytes = psutil.Process().memory_info().rss - before_bytes
    return {"name": name, "entries": size.entry_count, "real": real_bytes, "counted": size.size_bytes}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_states(int(sys.argv[1])))))
