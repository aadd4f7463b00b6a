"""What one instance does about rules: it numbers its own, hears those of others, remembers them, and judges entries.

While the shared memory is away, a rule given here is obeyed here at once and told to the others when it is back. What
this instance knows to be invalidated is never served, whatever else is down.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from meshkit.clock import Clock
from meshkit.errors import BackendDown
from meshkit.telemetry import names
from meshkit.telemetry.logs import get_logger
from services.cache.contact import Contact
from services.cache.entry import Entry
from services.cache.epoch_file import Damaged, EpochFile, Remembered
from services.cache.epochs import Epochs, Rule, Selector
from services.cache.settings import EpochSettings
from services.cache.shared_epochs import Issued, LocalEpochs, Once, SharedEpochs
from services.cache.tier import TierUnavailable

INVALIDATED = "invalidated"
OUT_OF_TOUCH = "out of touch"
_log = get_logger(__name__)
_REMEMBER_EVERY_S = 15.0
_FOLD_SLACK_S = 3600.0
"""For answers whose generation took long, and for clocks that differ."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A rule that holds here from now on."""

    issued: Issued
    is_shared: bool
    """Whether the other instances can hear it now."""


class EpochKeeper:
    """`run` must run for others to be heard; without a shared memory this instance is alone, and `run` ends."""

    def __init__(
        self,
        settings: EpochSettings,
        *,
        longest_life_s: float,
        clock: Clock,
        shared: SharedEpochs | None = None,
        file: EpochFile | None = None,
    ) -> None:
        self._settings = settings
        self._fold_after_s = longest_life_s + _FOLD_SLACK_S
        self._clock = clock
        self._epochs = Epochs(max_rules=settings.max_rules)
        self._here = LocalEpochs(clock)
        self._shared = shared
        self._file = file
        self._contact = Contact(clock, bound_s=settings.bound_s, grace_s=settings.grace_s) if shared else None
        self._unshared: set[Rule] = set()
        self._history: bytes | None = None
        self._heard_to = 0
        self._nothing_before = 0.0
        self._remembered_at = float("-inf")
        self._is_dirty = False
        self._is_told_silent = False

    def number(self, partition: bytes) -> int:
        """What a look-up takes with it, for the entry that it may lead to."""
        return self._epochs.number(partition)

    def known(self, partition: bytes) -> Epochs:
        """A copy of what is known of one tenant now."""
        copy = Epochs(max_rules=self._settings.max_rules)
        for rule in self._epochs.rules(partition):
            copy.add(rule)
        return copy

    def objection(self, key: bytes, entry: Entry) -> str:
        """Why an entry must not be served; empty where it may be."""
        if entry.stored_at < self._nothing_before or not self._epochs.is_visible(key, entry):
            return INVALIDATED
        if self._contact is not None and not self._contact.believes(entry):
            return OUT_OF_TOUCH
        return ""

    async def settle(self) -> None:
        """Before a look-up: return once this instance knows what it can know."""
        if self._contact is not None:
            await self._contact.settle()

    async def give(self, partition: bytes, selector: Selector, once: Once | None = None) -> Given:
        """Issue a rule, or find the one that the same order led to. It holds here when this returns.

        Raises BackendDown where it would be forgotten with this process although entries on disk stay.
        """
        given = await self._issued(partition, selector, once)
        if given.issued.is_repeat and once is not None and given.issued.fingerprint != once.fingerprint:
            return given
        rule = Rule(partition=partition, selector=selector, number=given.issued.number)
        self._learn((rule,))
        if not given.is_shared and not given.issued.is_repeat:
            self._unshared.add(rule)
        if not await self._remember() and (self._shared is None or not given.is_shared):
            raise BackendDown("it holds until a restart only: the disk can't be written to; make space, send it again")
        return given

    async def finish(self, once: Once, given: Given, outcome: bytes) -> None:
        """Remember what came of an order, for its repetitions."""
        await self._here.finish(once, given.issued, outcome)
        if self._shared is not None:
            try:
                await self._shared.finish(once, given.issued, outcome)
            except TierUnavailable:
                pass

    async def start(self) -> None:
        """Know what an earlier process knew."""
        if self._file is None:
            return
        try:
            remembered = await self._file.load()
        except Damaged:
            # Rules were forgotten while entries were not.
            self._nothing_before = self._clock.wall()
            await self._remember()
            return
        self._learn(remembered.rules)
        self._unshared.update(remembered.unshared if self._shared is not None else ())
        self._nothing_before = remembered.nothing_before
        if self._contact is not None:
            self._contact.resume(remembered.heard_wall)

    async def run(self) -> None:
        """Hear what others say, again and again. Runs until cancelled."""
        if self._shared is None or self._contact is None:
            return
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._shared.watch())
            while True:
                await self._ask(self._shared, self._contact)
                if not self._contact.should_ask_at_once:
                    await self._clock.sleep(self._settings.poll_s)

    async def close(self) -> None:
        await self._remember()
        if self._shared is not None:
            await self._shared.close()

    async def _issued(self, partition: bytes, selector: Selector, once: Once | None) -> Given:
        at_least = self._epochs.number(partition) + 1
        before = set(self._epochs.rules(partition))
        self._epochs.fold(partition, below=int((self._clock.wall() - self._fold_after_s) * 1000))
        after = set(self._epochs.rules(partition))
        if self._shared is not None:
            try:
                issued = await self._shared.issue(
                    partition,
                    selector,
                    at_least=at_least,
                    once=once,
                    replaced=tuple(before - after),
                    by=tuple(after - before),
                )
                return Given(issued=issued, is_shared=True)
            except TierUnavailable:
                pass
        issued = await self._here.issue(partition, selector, at_least=at_least, once=once)
        return Given(issued=issued, is_shared=self._shared is None)

    async def _ask(self, shared: SharedEpochs, contact: Contact) -> None:
        asked_at = self._clock.now()
        try:
            await self._catch_up(shared)
        except TierUnavailable as problem:
            contact.failed()
            if not self._is_told_silent and contact.is_silent:
                _log.warning(names.LOG_CACHE_EPOCHS_UNHEARD, error=str(problem), grace_s=self._settings.grace_s)
                self._is_told_silent = True
        else:
            contact.heard(asked_at)
            self._is_told_silent = False
        if self._is_dirty or self._clock.now() - self._remembered_at > _REMEMBER_EVERY_S:
            await self._remember()

    async def _catch_up(self, shared: SharedEpochs) -> None:
        for rule in tuple(self._unshared):
            # A new number: entries made meanwhile by instances that had not heard of it are older than it.
            issued = await shared.issue(rule.partition, rule.selector, at_least=rule.number)
            self._learn((Rule(partition=rule.partition, selector=rule.selector, number=issued.number),))
            self._unshared.discard(rule)
        history = await self._hear(shared, self._heard_to)
        if history != self._history:
            await self._hear(shared, 0)
            await shared.restore(tuple(self._epochs.rules()))
            self._history = await self._hear(shared, 0)

    async def _hear(self, shared: SharedEpochs, number: int) -> bytes:
        """Learn every rule from this number on; the history that they belong to."""
        heard = await shared.hear(number)
        history = heard.history
        while True:
            self._learn(heard.rules)
            self._heard_to = max((rule.number for rule in heard.rules), default=0)
            if heard.is_all:
                return history
            heard = await shared.hear(self._heard_to)
            if heard.history != history:
                raise TierUnavailable("its history changed while it was heard")

    def _learn(self, rules: Sequence[Rule]) -> None:
        for rule in rules:
            self._is_dirty = self._epochs.add(rule) or self._is_dirty

    async def _remember(self) -> bool:
        """False where there is a disk that can't be written to."""
        if self._file is None:
            return True
        self._is_dirty = False
        heard_wall = self._contact.heard_wall if self._contact is not None else self._clock.wall()
        remembered = Remembered(
            rules=tuple(self._epochs.rules()),
            unshared=tuple(self._unshared),
            heard_wall=heard_wall,
            nothing_before=self._nothing_before,
        )
        kept = await self._file.save(remembered)
        self._remembered_at = self._clock.now()
        if kept is None:
            self._is_dirty = True
            return False
        for rule in kept.rules:
            self._epochs.add(rule)
        self._nothing_before = kept.nothing_before
        return True
