"""Idle memory: the resident set of each service but inference, some time after it started and with nothing to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import psutil

from benchmarks.report import Claim, at_most

BAR_MB = 150
SERVICES = ("router", "cache", "compressor", "console")


def idle_memory(facts: Mapping[str, Any]) -> Iterator[Claim]:
    """The largest of the services, with all of them in the detail."""
    sizes = {
        process["name"]: psutil.Process(process["pid"]).memory_info().rss / 1e6
        for process in facts["processes"]
        if process["name"] in SERVICES
    }
    detail = ", ".join(f"{name} {size:.0f} MB" for name, size in sorted(sizes.items()))
    yield at_most("idle_memory", max(sizes.values()), "MB", BAR_MB, detail)
