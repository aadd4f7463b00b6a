"""The port of what all instances know together about rules, and the one for an instance that is alone.

A shared memory hands out numbers and tells rules in the order of their numbers. It may forget everything at any moment
(a server that is flushed, evicts or is replaced): it then gets another history, and each instance that notices puts
back what it knows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meshkit.clock import Clock
from services.cache.epochs import Rule, Selector

PAGE_RULES = 500
ONCE_TTL_S = 86_400.0
"""How long an idempotency key is remembered."""
HISTORY_BYTES = 8
_ONCE_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """An order that must count once: its key, and a digest of what is ordered."""

    key: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """The number of a rule. For an order that was given before: that one's number, fingerprint and outcome."""

    number: int
    fingerprint: bytes = b""
    outcome: bytes = b""
    is_repeat: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Rules by number, smallest first."""

    rules: tuple[Rule, ...]
    history: bytes
    """Names the memory. Another one than last time: rules may be missing on either side. Empty: it has none."""
    is_all: bool
    """False: ask again from the largest of these numbers on."""


class SharedEpochs(Protocol):
    """Every call is bounded in time and raises TierUnavailable where the memory does not answer."""

    async def watch(self) -> None:
        """Keep in touch with it. Runs until cancelled, or ends where there is nothing to do."""
        ...

    async def issue(
        self,
        partition: bytes,
        selector: Selector,
        *,
        at_least: int,
        once: Once | None = None,
        replaced: Sequence[Rule] = (),
        by: Sequence[Rule] = (),
    ) -> Issued:
        """Give a rule its number, above all others, and tell it. `replaced` is forgotten in favour of `by`."""
        ...

    async def hear(self, number: int) -> Heard:
        """A page of the rules with at least this number."""
        ...

    async def restore(self, rules: Sequence[Rule]) -> None:
        """Put back what may have been forgotten. The history becomes another one if anything was, or there was none."""
        ...

    async def finish(self, once: Once, issued: Issued, outcome: bytes) -> None:
        """Remember what came of an order that must count once."""
        ...

    async def close(self) -> None: ...


class LocalEpochs:
    """The memory of an instance that is alone. Numbers are Unix milliseconds, or one more than the last.

    So they keep growing when everything was forgotten, and stay above what entries on disk carry.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._history = b""
        self._numbers: dict[bytes, Rule] = {}
        self._largest = 0
        self._once: dict[bytes, tuple[float, Issued]] = {}

    async def watch(self) -> None: ...

    async def issue(
        self,
        partition: bytes,
        selector: Selector,
        *,
        at_least: int,
        once: Once | None = None,
        replaced: Sequence[Rule] = (),
        by: Sequence[Rule] = (),
    ) -> Issued:
        if once is not None and (before := self._before(once)) is not None:
            return before
        number = max(self._largest + 1, at_least, int(self._clock.wall() * 1000))
        for rule in replaced:
            self._numbers.pop(rule.subject, None)
        for rule in (*by, Rule(partition=partition, selector=selector, number=number)):
            self._keep(rule)
        if once is not None:
            self._remember(once, Issued(number=number, fingerprint=once.fingerprint, is_repeat=True))
        return Issued(number=number)

    async def hear(self, number: int) -> Heard:
        rules = sorted((rule for rule in self._numbers.values() if rule.number >= number), key=lambda rule: rule.number)
        return Heard(rules=tuple(rules[:PAGE_RULES]), history=self._history, is_all=len(rules) <= PAGE_RULES)

    async def restore(self, rules: Sequence[Rule]) -> None:
        missing = [rule for rule in rules if not self._knows(rule)]
        for rule in missing:
            self._keep(rule)
        if missing or not self._history:
            self._history = os.urandom(HISTORY_BYTES)

    async def finish(self, once: Once, issued: Issued, outcome: bytes) -> None:
        self._remember(
            once, Issued(number=issued.number, fingerprint=once.fingerprint, outcome=outcome, is_repeat=True)
        )

    async def close(self) -> None: ...

    def forget(self) -> None:
        """As a server that is flushed."""
        self._numbers.clear()
        self._once.clear()
        self._history = b""

    def _knows(self, rule: Rule) -> bool:
        kept = self._numbers.get(rule.subject)
        return kept is not None and kept.number >= rule.number

    def _keep(self, rule: Rule) -> None:
        if not self._knows(rule):
            self._numbers[rule.subject] = rule
        self._largest = max(self._largest, rule.number)

    def _before(self, once: Once) -> Issued | None:
        until, issued = self._once.get(once.key, (0.0, None))
        return issued if until > self._clock.now() else None

    def _remember(self, once: Once, issued: Issued) -> None:
        self._once.pop(once.key, None)
        if len(self._once) >= _ONCE_LIMIT:
            self._once.pop(next(iter(self._once)))
        self._once[once.key] = (self._clock.now() + ONCE_TTL_S, issued)
