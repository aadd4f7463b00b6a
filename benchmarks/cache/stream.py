"""The look-ups that the tiers are measured with: keys by Zipf's law, each with an answer as long as in the trace.

A key's size is drawn once from the output lengths of Azure's conversation trace and turned into bytes at what the
contract's own encoding takes per token, one token an event.
"""

from __future__ import annotations

import csv
import hashlib
import random
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from benchmarks.report import Options
from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.common.v1 import common_pb2
from services.cache.entry import Entry

FILE = Path("azure_llm_2023") / "conv.csv"
KEY_COUNT, SMOKE_KEY_COUNT = 100_000, 1000
# The trace's output lengths at 40 equal steps of their distribution; for where there is no --data.
SAMPLE_TOKENS = (
    *(18, 37, 45, 51, 57, 64, 69, 75, 80, 83, 86, 89, 92, 95, 98, 101, 105, 110, 116, 124, 134, 144, 157, 167, 183),
    *(211, 254, 377, 388, 394, 396, 398, 402, 409, 414, 419, 428, 440, 478, 589),
)
_STUDENT_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Look-ups in order, as numbers of keys, and the payload's size of each key."""

    numbers: Sequence[int]
    sizes: Sequence[int]

    @property
    def asked_bytes(self) -> int:
        """Payload of all keys that are asked for at least once."""
        return sum(self.sizes[number] for number in set(self.numbers))

    @property
    def possible_hit_count(self) -> int:
        """What a tier without bounds would hit: every look-up but the first of each key."""
        return len(self.numbers) - len(set(self.numbers))


def make_stream(options: Options, *, requests_per_key: float, seed: int) -> Stream:
    """Zipf(1.0) over 100,000 keys."""
    chance = random.Random(seed)
    key_count = SMOKE_KEY_COUNT if options.is_smoke else KEY_COUNT
    weights = list(accumulate(1 / rank for rank in range(1, key_count + 1)))
    numbers = chance.choices(range(key_count), cum_weights=weights, k=int(key_count * requests_per_key))
    base_bytes, token_bytes = payload_bytes(0), (payload_bytes(1000) - payload_bytes(0)) / 1000
    tokens = chance.choices(output_tokens(options), k=key_count)
    return Stream(numbers=numbers, sizes=[int(base_bytes + token_bytes * count) for count in tokens])


def output_tokens(options: Options) -> Sequence[int]:
    """The trace's output lengths, or the sample of them."""
    path = options.data / FILE if options.data else None
    if path is None or not path.is_file():
        return SAMPLE_TOKENS
    with path.open(newline="") as file:
        return [int(row["GeneratedTokens"]) for row in csv.DictReader(file)]


def payload_bytes(token_count: int) -> int:
    """Bytes of an answer of so many tokens."""
    answer = pb.StoredAnswer(finish_reason=common_pb2.FINISH_REASON_STOP, model="a-model", revision="0" * 40)
    answer.usage.completion_tokens = token_count
    for number in range(token_count):
        event = answer.events.add(delta=common_pb2.Delta(text=" word", token_ids=[number]))
        event.offset.FromMilliseconds(20 * number)
    return answer.ByteSize()


def key_of(number: int) -> bytes:
    """48 bytes: the tenant's part, then the request's."""
    return b"benchmark-tenant" + hashlib.sha256(number.to_bytes(8, "big")).digest()


def entry_of(size_bytes: int, wall: float) -> Entry:
    """A new entry with a payload of so many bytes."""
    return Entry(
        payload=bytes(size_bytes), stored_at=wall, fresh_until=wall + 1e6, expires_at=wall + 1e6, epoch=0, revision="r"
    )


async def count_hits(stream: Stream, look_up: Callable[[int, int], Awaitable[bool]]) -> int:
    """Look-ups that were hits. `look_up` takes number and size, and stores what it did not find."""
    hit_count = 0
    for number in stream.numbers:
        hit_count += await look_up(number, stream.sizes[number])
    return hit_count


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % interval over seeds (Student's t)."""
    mean = statistics.fmean(values)
    half = _STUDENT_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5
    return mean, mean - half, mean + half
