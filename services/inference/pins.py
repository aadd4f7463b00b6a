"""Pins of prefixes on their way to an engine process: asked for, answered, and told again to each new life."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from services.inference.awaited import Awaited
from services.inference.engine.messages import PinPrefix, PrefixPinned, ToEngine
from services.inference.pinned_prefixes import PinnedPrefixes, Prefix, no_room

Send = Callable[[ToEngine], None]


class Pins:
    """Over the prefixes that are kept."""

    def __init__(self) -> None:
        self._prefixes = PinnedPrefixes()
        self._awaited: Awaited[bool] = Awaited()
        self._repeated: dict[int, Prefix] = {}
        self._repeated_ids = itertools.count(-1, -1)

    async def pin(self, prefix: Prefix, send: Send, *, cache_tokens: int) -> None:
        """Once for each prefix. Raises Overloaded, QuotaExceeded, BackendDown."""
        if prefix in self._prefixes:
            return
        self._prefixes.add(prefix, cache_tokens=cache_tokens)
        if not await self._awaited.ask(lambda pin_id: send(_message(pin_id, prefix, is_pinned=True))):
            self._prefixes.discard(prefix)
            raise no_room()

    async def unpin(self, prefix: Prefix, send: Send) -> None:
        """Raises BackendDown."""
        if self._prefixes.discard(prefix):
            await self._awaited.ask(lambda pin_id: send(_message(pin_id, prefix, is_pinned=False)))

    def answer(self, pinned: PrefixPinned) -> None:
        self._awaited.answer(pinned.pin_id, pinned.has_room)
        repeated = self._repeated.pop(pinned.pin_id, None)
        if repeated is not None and not pinned.has_room:
            self._prefixes.discard(repeated)

    def fail_all(self, told: str) -> None:
        """The engine is gone; what was being pinned is, in its next life."""
        self._awaited.fail_all(told)
        self._repeated.clear()

    def resume(self, send: Send) -> None:
        """A new life: it keeps nothing yet."""
        for prefix in self._prefixes:
            pin_id = next(self._repeated_ids)
            self._repeated[pin_id] = prefix
            send(_message(pin_id, prefix, is_pinned=True))


def _message(pin_id: int, prefix: Prefix, *, is_pinned: bool) -> PinPrefix:
    return PinPrefix(pin_id=pin_id, token_ids=list(prefix.token_ids), cache_salt=prefix.cache_salt, is_pinned=is_pinned)
