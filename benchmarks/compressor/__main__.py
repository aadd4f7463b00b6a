"""What prompt compression saves, what it keeps, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.compressor import formats, reader, selection
from benchmarks.report import Claim, Options, run

PARTS = (formats, selection, reader)


def measure(options: Options) -> Iterable[Claim]:
    for part in PARTS:
        yield from part.measure(options)


if __name__ == "__main__":
    claims = [claim for part in PARTS for claim in part.CLAIMS]
    run("compressor", "Measures the prompt compressor.", claims, measure, reader.add_arguments)
