"""Shows what is going on and for how long: one live line on a terminal, plain lines elsewhere.

Standard library only: the set-up uses it before anything is installed.
"""

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

QUIET_S = 2.0  # shorter steps leave no line unless they end in a note
REDRAW_S = 0.2
PLAIN_EVERY_S = 10.0


class Step:
    """One thing that takes time. `note` says what it is at right now."""

    def __init__(self, text: str, started_at: float) -> None:
        self.text = text
        self.detail = ""
        self.started_at = started_at
        self.shown_at = started_at + QUIET_S - PLAIN_EVERY_S  # due for the first time after QUIET_S

    def note(self, detail: str) -> None:
        self.detail = detail

    def line(self, now: float) -> str:
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.text}{detail} ({now - self.started_at:.0f} s)"


class Progress:
    """Any number of steps at once, from any thread or task."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._is_live = self._stream.isatty()
        self._steps: list[Step] = []
        self._lock = threading.Lock()
        self._ticker: threading.Thread | None = None

    def say(self, text: str) -> None:
        """A line of its own that stays."""
        with self._lock:
            self._erase()
            self._stream.write(text + "\n")
            self._stream.flush()

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """Shows `text` while the body runs, and its duration afterwards if it took long."""
        step = Step(text, self._clock())
        self._add(step)
        try:
            yield step
        finally:
            with self._lock:
                self._steps.remove(step)
                self._erase()
        took_s = self._clock() - step.started_at
        if took_s >= QUIET_S:
            self.say(f"{text}: done in {took_s:.1f} s")

    def _add(self, step: Step) -> None:
        with self._lock:
            self._steps.append(step)
            if self._ticker is None or not self._ticker.is_alive():
                self._ticker = threading.Thread(target=self._tick, daemon=True, name="progress")
                self._ticker.start()

    def _tick(self) -> None:
        while True:
            time.sleep(REDRAW_S)
            with self._lock:
                if not self._steps:
                    self._ticker = None
                    return
                if self._is_live:
                    self._redraw()
                else:
                    self._print_due()

    def _redraw(self) -> None:
        now = self._clock()
        old = [step for step in self._steps if now - step.started_at >= REDRAW_S]
        line = " | ".join(step.line(now) for step in old)
        self._erase()
        self._stream.write(line[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()

    def _print_due(self) -> None:
        now = self._clock()
        for step in self._steps:
            if now - step.shown_at >= PLAIN_EVERY_S:
                step.shown_at = now
                self._stream.write(f"{step.line(now)}\n")
        self._stream.flush()

    def _erase(self) -> None:
        if self._is_live:
            self._stream.write("\r\x1b[K")
