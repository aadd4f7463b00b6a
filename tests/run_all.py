"""Runs the tests in two lanes side by side and closes with a summary: `make test`.

Tests mostly wait, for processes to start and to die, so that one lane leaves a machine of two cores idle for most of
its time. Each lane runs its phases by cost, cheapest first; the second one's output comes when it has ended.
"""

import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TESTS = Path(__file__).resolve().parent
SHOWN_LANE = (("unit, contract", ("unit", "contract")), ("end to end", ("e2e",)))
KEPT_LANE = (("integration", ("integration",)),)
NO_TESTS_COLLECTED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one phase gave."""

    name: str
    passed: int
    failed: int
    skipped: int
    took_s: float
    exit_code: int

    @property
    def is_good(self) -> bool:
        """A phase without tests proves nothing, so it fails too."""
        return self.exit_code == 0


def main(arguments: list[str]) -> int:
    """Extra arguments go to pytest. Exit code 0 when every phase passed."""
    with tempfile.TemporaryFile() as kept, ThreadPoolExecutor(max_workers=1) as beside:
        print("integration runs beside the others; its output comes after theirs", flush=True)
        under_way = beside.submit(_lane, KEPT_LANE, arguments, kept)
        outcomes = _lane(SHOWN_LANE, arguments, None)
        outcomes += under_way.result()
        kept.seek(0)
        print(kept.read().decode(errors="replace"), flush=True)
    print(f"\n{'phase':<16}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for one in outcomes:
        print(f"{one.name:<16}{one.passed:>8}{one.failed:>8}{one.skipped:>9}{one.took_s:>9.0f}")
    is_good = all(one.is_good for one in outcomes)
    print("tests: all good" if is_good else "tests: FAILED")
    return 0 if is_good else 1


def _lane(
    phases: Sequence[tuple[str, Sequence[str]]], arguments: Sequence[str], output: IO[bytes] | None
) -> list[Outcome]:
    """One phase after the other, whatever became of those before it; output to this terminal where none is named."""
    return [_run(name, folders, arguments, output) for name, folders in phases]


def _run(name: str, folders: Sequence[str], arguments: Sequence[str], output: IO[bytes] | None) -> Outcome:
    present = [str(TESTS / folder) for folder in folders if (TESTS / folder).is_dir()]
    if output is None:
        print(f"\n== {name}", flush=True)
    else:
        output.write(f"\n== {name}\n".encode())
        output.flush()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments, *present]
        run = subprocess.run(command, cwd=TESTS.parent, stdout=output, stderr=output) if present else None
        counts = _counts(report)
    exit_code = run.returncode if run else NO_TESTS_COLLECTED
    return Outcome(name=name, took_s=time.monotonic() - began, exit_code=exit_code, **counts)


def _counts(report: Path) -> dict[str, int]:
    if not report.exists():
        return {"passed": 0, "failed": 0, "skipped": 0}
    suite = next(ElementTree.parse(report).getroot().iter("testsuite")).attrib
    total, skipped = int(suite["tests"]), int(suite["skipped"])
    failed = int(suite["failures"]) + int(suite["errors"])
    return {"passed": total - failed - skipped, "failed": failed, "skipped": skipped}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
