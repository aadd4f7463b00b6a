"""One back end as a child process of a test: started until it answers, killed, frozen, started again."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

STOP_TIMEOUT_S = 5.0
PORT_ATTEMPTS = 3


class BackendProcess:
    """A process with its log beside it. Subclasses say by `is_ready` when it answers."""

    def __init__(self, name: str, command: Sequence[str], log: Path, *, timeout_s: float, poll_s: float) -> None:
        self._name = name
        self._command = command
        self._log = log
        self._timeout_s = timeout_s
        self._poll_s = poll_s
        self._process: subprocess.Popen[bytes] | None = None

    def is_ready(self) -> bool:
        """Whether it answers; called on a thread, may block for a moment."""
        raise NotImplementedError

    async def start(self) -> None:
        """Starts the process and returns once it answers. Raises RuntimeError with its last words."""
        self._process = self._spawn()
        deadline = time.monotonic() + self._timeout_s
        while not await asyncio.to_thread(self.is_ready):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._name} did not start: {self.log_tail()}")
            await asyncio.sleep(self._poll_s)

    def kill(self) -> None:
        """SIGKILL, as if the machine had died; `start` brings it back with what it keeps on its disk."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_TIMEOUT_S)
            self._process = None

    def pause(self) -> None:
        """Freezes it: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends `pause`."""
        self._signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """Its last words."""
        return self._log.read_text(errors="replace")[-1500:]

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)


B = TypeVar("B", bound=BackendProcess)


async def started(make: Callable[[int], B]) -> B:
    """`make(attempt)`, started. A free port may be taken between choosing and binding it, so others are tried."""
    for attempt in range(PORT_ATTEMPTS):
        backend = make(attempt)
        try:
            await backend.start()
        except RuntimeError:
            if attempt + 1 == PORT_ATTEMPTS:
                raise
            continue
        return backend
    raise AssertionError("unreachable")
