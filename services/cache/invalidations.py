"""What it means to invalidate: the rule first, so that the entries are hidden everywhere, then counting and deleting.

Hiding is what counts and is quick; deleting only gives space back, in the tiers that this instance reaches, and stops
when its time is over. A dry run counts what a rule would hide now. The tenant is the caller's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import msgspec

from meshkit.clock import Clock
from meshkit.errors import BackendDown, InvalidRequest
from services.cache.audit import Audit, Record
from services.cache.entry import Entry
from services.cache.epoch_keeper import EpochKeeper
from services.cache.epochs import EVERYTHING, Epochs, Kind, Selector
from services.cache.request_key import partition
from services.cache.response_cache import Caller
from services.cache.shared_epochs import Once
from services.cache.tally import Tally, tally
from services.cache.tiered import TieredStore

_KEY_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to hide and why."""

    selector: Selector = EVERYTHING
    is_applied: bool
    reason: str = ""
    idempotency_key: str = ""
    """Two orders with the same one are one; empty: each is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an order hides, or would hide."""

    epoch: int = 0
    """The rule's number; 0 for a dry run."""
    is_shared: bool = False
    """Whether the other instances can hear of it now."""
    tally: Tally = field(default_factory=Tally)


class Invalidations:
    """Carries orders out, one tenant's at a time."""

    def __init__(self, store: TieredStore, keeper: EpochKeeper, audit: Audit, clock: Clock) -> None:
        self._store = store
        self._keeper = keeper
        self._audit = audit
        self._clock = clock

    async def bump(self, caller: Caller, order: Order) -> Outcome:
        """Hide everything of the tenant, and delete nothing. Raises BackendDown: see `EpochKeeper.give`."""
        return await self._once(caller, "bump", order, time_s=0)

    async def invalidate(self, caller: Caller, order: Order, *, time_s: float) -> Outcome:
        """Hide what is selected and delete it, or count it. Takes `time_s` at most for counting and deleting."""
        if order.is_applied:
            return await self._once(caller, "invalidate", order, time_s=time_s)
        known = self._keeper.known(partition(caller.tenant))
        outcome = Outcome(tally=await self._sweep(caller, order.selector, known, None, time_s))
        self._record(caller, order, outcome)
        return outcome

    def records(self, caller: Caller) -> list[Record]:
        """What this instance applied for the tenant, newest first."""
        return self._audit.of(caller.tenant)

    async def _once(self, caller: Caller, method: str, order: Order, *, time_s: float) -> Outcome:
        place, once = partition(caller.tenant), _once(caller.tenant, method, order)
        known = self._keeper.known(place)
        try:
            given = await self._keeper.give(place, order.selector, once)
        except BackendDown:
            self._record(caller, order, Outcome(epoch=self._keeper.number(place)))
            raise
        if given.issued.is_repeat and once is not None:
            if given.issued.fingerprint != once.fingerprint:
                raise InvalidRequest("was used for another order", field="idempotency_key", limit="a new key an order")
            if given.issued.outcome:
                return msgspec.msgpack.decode(given.issued.outcome, type=Outcome)
        number = given.issued.number
        found = await self._sweep(caller, order.selector, known, number, time_s) if time_s > 0 else Tally()
        outcome = Outcome(epoch=number, is_shared=given.is_shared, tally=found)
        if once is not None:
            await self._keeper.finish(once, given, msgspec.msgpack.encode(outcome))
        self._record(caller, order, outcome)
        return outcome

    async def _sweep(
        self, caller: Caller, selector: Selector, known: Epochs, number: int | None, time_s: float
    ) -> Tally:
        """`known`: the rules before this one, since what they hide is not counted again."""
        wall = self._clock.wall()

        def counts(key: bytes, entry: Entry) -> bool:
            return entry.expires_at > wall and selector.selects(key, entry) and known.is_visible(key, entry)

        def forgets(key: bytes, entry: Entry) -> bool:
            return number is not None and entry.epoch < number and selector.selects(key, entry)

        prefix = partition(caller.tenant) + (selector.value if selector.kind is Kind.DIGEST_PREFIX else b"")
        return await tally(
            self._store.levels, prefix, counts=counts, forgets=None if number is None else forgets, time_s=time_s
        )

    def _record(self, caller: Caller, order: Order, outcome: Outcome) -> None:
        selector = order.selector
        is_text = selector.kind in (Kind.REVISION, Kind.TAG)
        record = Record(
            at=self._clock.wall(),
            tenant=caller.tenant,
            principal=caller.principal,
            selector=selector.kind.name.lower(),
            value=selector.value.decode() if is_text else selector.value.hex(),
            reason=order.reason,
            is_applied=order.is_applied,
            epoch=outcome.epoch,
            entry_count=outcome.tally.entry_count,
            size_bytes=outcome.tally.size_bytes,
            is_exact=outcome.tally.is_exact,
            is_shared=outcome.is_shared,
        )
        self._audit.add(record)


def _once(tenant: str, method: str, order: Order) -> Once | None:
    if not order.idempotency_key:
        return None
    key = hashlib.blake2b(f"{method}:{order.idempotency_key}".encode(), key=partition(tenant), digest_size=_KEY_BYTES)
    what = bytes([order.selector.kind]) + order.selector.value
    return Once(key=key.digest(), fingerprint=hashlib.blake2b(what, digest_size=_KEY_BYTES).digest())
