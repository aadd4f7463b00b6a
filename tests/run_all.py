"""Runs the tests by cost, cheapest first, and closes with a summary: `make test`."""

import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PHASES = (
    ("unit, contract", ("unit", "contract")),
    ("integration", ("integration",)),
    ("end to end", ("e2e",)),
)
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
    outcomes = [_run(name, folders, arguments) for name, folders in PHASES]
    print(f"\n{'phase':<16}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for one in outcomes:
        print(f"{one.name:<16}{one.passed:>8}{one.failed:>8}{one.skipped:>9}{one.took_s:>9.0f}")
    is_good = all(one.is_good for one in outcomes)
    print("tests: all good" if is_good else "tests: FAILED")
    return 0 if is_good else 1


def _run(name: str, folders: tuple[str, ...], arguments: list[str]) -> Outcome:
    present = [str(TESTS / folder) for folder in folders if (TESTS / folder).is_dir()]
    print(f"\n== {name}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments, *present]
        exit_code = subprocess.run(command, cwd=TESTS.parent).returncode if present else NO_TESTS_COLLECTED
        counts = _counts(report)
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
