"""The requests in progress here, so that they can be cancelled by name and one key is never two requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from meshkit.errors import Conflict


class CancelledByCaller(Exception):
    """The request was cancelled by its name, not by its stream."""


class Running:
    """One request in progress. What it waits for, or the task that works for it, ends when it is cancelled."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._work: asyncio.Task[Any] | None = None

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let a cancellation end the waiting inside the block; raises CancelledByCaller. Works like asyncio.timeout."""
        task = asyncio.current_task()
        assert task is not None, "requests are served in tasks"
        others_count = task.cancelling()
        if self.is_cancelled:
            raise CancelledByCaller
        self._work = task
        try:
            yield
        except asyncio.CancelledError:
            if self.is_cancelled and task.uncancel() <= others_count:
                raise CancelledByCaller from None
            raise
        finally:
            self._work = None

    def attach(self, work: asyncio.Task[None]) -> None:
        """Name the task that a cancellation ends; one that came before ends it once it has begun."""
        self._work = work
        if self.is_cancelled:
            # A task that is cancelled before its first step never runs, and so never settles what waits for it.
            asyncio.get_running_loop().call_soon(work.cancel)

    def cancel(self) -> None:
        """End the work; the stream then finishes with CANCELLED."""
        if not self.is_cancelled:
            self.is_cancelled = True
            if self._work is not None:
                self._work.cancel()


class Journal:
    """Requests by tenant and decision id or idempotency key. A tenant sees only its own."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], Running] = {}

    @contextlib.contextmanager
    def entry(self, tenant: str, decision_id: str, idempotency_key: str) -> Iterator[Running]:
        """Keep a request while the block lasts; Conflict where its key runs already."""
        keys = [(tenant, decision_id)]
        if idempotency_key:
            keys.append((tenant, _key_name(idempotency_key)))
            if keys[-1] in self._running:
                raise Conflict("idempotency_key: a request with this key is running; wait for it or cancel it")
        running = Running()
        for key in keys:
            self._running[key] = running
        try:
            yield running
        finally:
            for key in keys:
                del self._running[key]

    def cancel(self, tenant: str, *, decision_id: str = "", idempotency_key: str = "") -> bool:
        """Cancel a request of this tenant; False where none runs under that name."""
        name = decision_id or _key_name(idempotency_key)
        running = self._running.get((tenant, name))
        if running is None:
            return False
        running.cancel()
        return True

    @property
    def running_count(self) -> int:
        return len({id(running) for running in self._running.values()})


def _key_name(idempotency_key: str) -> str:
    return f"key:{idempotency_key}"
