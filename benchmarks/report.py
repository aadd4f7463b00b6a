"""What every benchmark shares: its command line, its table and its JSON. A benchmark measures, it never asserts."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One figure beside its bar. `low`/`high`: 95 % interval, where there is one."""

    name: str
    value: float | None
    unit: str
    bar: str
    holds: bool | None
    low: float | None = None
    high: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for on the command line."""

    only: frozenset[str]
    is_smoke: bool
    data: Path | None
    has_peers: bool
    extra: argparse.Namespace  # what the benchmark's own `add_arguments` asked for

    def wants(self, name: str) -> bool:
        """Whether a claim was asked for."""
        return not self.only or name in self.only


def run(
    name: str,
    description: str,
    claims: Sequence[str],
    measure: Callable[[Options], Iterable[Claim]],
    add_arguments: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Measure, print the table as it grows, write the JSON. Exit status 0 when it ran, whatever holds."""
    parser = _parser(name, description, claims)
    add_arguments(parser)
    arguments = parser.parse_args()
    options = Options(
        only=frozenset(filter(None, (arguments.only or "").split(","))),
        is_smoke=arguments.smoke,
        data=arguments.data,
        has_peers=arguments.peers,
        extra=arguments,
    )
    if unknown := options.only - set(claims):
        sys.exit(f"--only: unknown {', '.join(sorted(unknown))}; known: {', '.join(claims)}")
    found = []
    for claim in measure(options):
        found.append(claim)
        print(_row(claim), flush=True)
    if arguments.json:
        report = {"machine": machine(), "commit": _commit(), "claims": [asdict(claim) for claim in found]}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def at_most(name: str, value: float, unit: str, limit: float, detail: str = "", **interval: float) -> Claim:
    """A figure that should not be above its bar."""
    return Claim(
        name=name, value=value, unit=unit, bar=f"<= {limit:g}", holds=value <= limit, detail=detail, **interval
    )


def at_least(name: str, value: float, unit: str, limit: float, detail: str = "", **interval: float) -> Claim:
    """A figure that should not be below its bar."""
    return Claim(
        name=name, value=value, unit=unit, bar=f">= {limit:g}", holds=value >= limit, detail=detail, **interval
    )


def skipped(name: str, unit: str, bar: str, reason: str) -> Claim:
    """A claim that could not be measured here: neither holds nor fails."""
    return Claim(name=name, value=None, unit=unit, bar=bar, holds=None, detail=f"skipped: {reason}")


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median and its 95 % interval by order statistics (binomial, normal approximation)."""
    ordered = sorted(values)
    count = len(ordered)
    half = 1.96 * count**0.5 / 2
    low = ordered[max(0, int(count / 2 - half))]
    high = ordered[min(count - 1, int(count / 2 + half))]
    return statistics.median(ordered), low, high


def bootstrap(values: Sequence[float], rounds: int = 1000, seed: int = 7) -> tuple[float, float]:
    """The 95 % interval of the mean over what the values were drawn from."""
    draw = random.Random(seed)
    means = sorted(statistics.mean(draw.choices(values, k=len(values))) for _ in range(rounds))
    return means[int(0.025 * rounds)], means[int(0.975 * rounds)]


def wilson(count: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    if not total:
        return 0.0, 1.0
    z2 = 1.96**2
    share = count / total
    middle = share + z2 / (2 * total)
    half = 1.96 * (share * (1 - share) / total + z2 / (4 * total**2)) ** 0.5
    return max(0.0, (middle - half) / (1 + z2 / total)), min(1.0, (middle + half) / (1 + z2 / total))


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> dict[str, Any]:
    """What it ran on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _parser(name: str, description: str, claims: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the claims as JSON")
    parser.add_argument("--only", metavar="CLAIM,...", help=f"some of: {', '.join(claims)}")
    parser.add_argument("--smoke", action="store_true", help="smallest size: shows that it runs, not how fast")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of data sets; this benchmark may need none")
    parser.add_argument("--peers", action="store_true", help="measure peers beside it, where it has any")
    return parser


def _row(claim: Claim) -> str:
    value = "skipped" if claim.value is None else f"{claim.value:.3g} {claim.unit}"
    mark = {True: "holds", False: "FALLS SHORT", None: "-"}[claim.holds]
    return f"{claim.name:<28} {value:>14}   bar {claim.bar:<12} {mark:<12} {claim.detail}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip()
