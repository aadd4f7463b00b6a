"""Our end of a peer: start its program, ask, read the answer. A peer that fails says why instead of a figure.

A peer is stopped (SIGSTOP) whenever it is not its turn: threads that spin or poll while their owner is idle would
take cores from whoever's turn it is.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine.contender import Failed, Prompts

ROOT = Path(__file__).parents[3]
PATIENCE_S = 1800.0


class PeerProcess:
    """A context manager: ready when entered, gone when left. Raises Failed from every call."""

    def __init__(self, name: str, python: Path, module: str, arguments: Sequence[str]) -> None:
        self.name = name
        self._command = [str(python.absolute()), "-m", f"benchmarks.engine.peers.{module}", *arguments]

    def __enter__(self) -> PeerProcess:
        self._said = tempfile.TemporaryFile("w+")
        try:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
            )
        except OSError as error:
            self._said.close()
            raise Failed(str(error)) from error
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()  # works on a stopped process too
        self._process.communicate()
        self._said.close()

    def hold(self, prompts: Prompts) -> None:
        self.ask("hold", prompts)

    def decode(self, drawn: int) -> float:
        return float(self.ask("decode", drawn))

    def prefill(self, prompts: Prompts) -> float:
        return float(self.ask("prefill", prompts))

    def ask(self, call: str, *arguments: Any) -> Any:
        """What the peer's method of that name gives."""
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps({"call": call, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Failed(self._last_words()) from error
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        line = self._process.stdout.readline() if readable else ""
        if not line:
            raise Failed(self._last_words())
        self._process.send_signal(signal.SIGSTOP)
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["value"]

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().strip().splitlines()
        return lines[-1] if lines else "ended without a word"
