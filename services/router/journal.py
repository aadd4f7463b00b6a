"""The requests in progress here, so that they can be cancelled by name and one key is never two requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from meshkit.errors import Conflict


class Running:
    """One request in progress."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self._work: asyncio.Task[None] | None = None

    def attach(self, work: asyncio.Task[None]) -> None:
        """Name the task that a cancellation ends; one that came before ends it now."""
        self._work = work
        if self.is_cancelled:
            work.cancel()

    def cancel(self) -> None:
        """End the work; the stream then finishes with CANCELLED."""
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
