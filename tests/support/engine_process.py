"""A real engine process for tests, spoken to over its socket as the RPC process does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from services.inference.engine.messages import (
    AddSequence,
    Fatal,
    FromEngine,
    Progress,
    Ready,
    SequenceFailed,
    StepDone,
    ToEngine,
)
from services.inference.engine.options import EngineOptions, as_arguments
from services.inference.engine.transport import BlockingChannel, EndOfStream

ROOT = Path(__file__).parents[2]
CACHE_DIR = ROOT / ".cache" / "models"  # shared with `make up`, so that the all-reduce is compiled once
PATIENCE_S = 300.0


class EngineStopped(Exception):
    """The engine ended, or said nothing for PATIENCE_S."""


class EngineUnderTest:
    """Starts at once; use as a context manager so that nothing is left behind."""

    def __init__(self, model_dir: Path, environment: Mapping[str, str] | None = None, **changes: Any) -> None:
        ours, theirs = socket.socketpair()
        changes = {"cache_dir": CACHE_DIR, "kv_tokens": 2048, "context_tokens": 2048, "threads": 1, **changes}
        options = EngineOptions(fd=theirs.fileno(), model_dir=model_dir, **changes)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.inference.engine", *as_arguments(options)],
            pass_fds=[theirs.fileno()],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self.channel: BlockingChannel[ToEngine, FromEngine] = BlockingChannel(ours, FromEngine)
        self.stages: list[str] = []

    def __enter__(self) -> EngineUnderTest:
        return self

    def __exit__(self, *exception: object) -> None:
        self.channel.close()
        self.process.kill()
        self.process.wait(PATIENCE_S)

    def read(self) -> FromEngine:
        if not self.channel.is_readable(PATIENCE_S):
            raise EngineStopped(f"nothing heard for {PATIENCE_S} s")
        try:
            return self.channel.read()
        except EndOfStream as error:
            raise EngineStopped(f"exit status {self.process.wait(PATIENCE_S)}") from error

    def started(self) -> Ready | Fatal:
        """Read up to Ready or Fatal; keeps the stages before it."""
        while True:
            event = self.read()
            if isinstance(event, Ready | Fatal):
                return event
            if isinstance(event, Progress):
                self.stages.append(event.stage)

    def ready(self) -> Ready:
        event = self.started()
        assert isinstance(event, Ready), event
        return event

    def generate(self, requests: Iterable[AddSequence]) -> dict[int, list[int]]:
        """Send all at once; gives each sequence's tokens. A failed one has what it got so far."""
        drawn: dict[int, list[int]] = {}
        for request in requests:
            drawn[request.sequence_id] = []
            self.channel.write(request)
        open_ids = set(drawn)
        while open_ids:
            event = self.read()
            if isinstance(event, SequenceFailed):
                open_ids.discard(event.sequence_id)
            if isinstance(event, StepDone):
                for token in event.tokens:
                    drawn[token.sequence_id].append(token.token_id)
                    if token.finish is not None:
                        open_ids.discard(token.sequence_id)
        return drawn


class LentEngine:
    """One engine for many tests: started when it is first wanted, and again where a test has ended it."""

    def __init__(self, start: Callable[[], EngineUnderTest]) -> None:
        self._start = start
        self._engine: EngineUnderTest | None = None
        self._ready: Ready | None = None

    def lend(self) -> tuple[EngineUnderTest, Ready]:
        """Whoever borrows it leaves it idle, with nothing unread but heartbeats, or ends it."""
        if self._engine is None or self._ready is None or self._engine.process.poll() is not None:
            self.end()
            self._engine = self._start()
            self._ready = self._engine.ready()
        return self._engine, self._ready

    def end(self) -> None:
        if self._engine is not None:
            self._engine.__exit__()
            self._engine = self._ready = None
