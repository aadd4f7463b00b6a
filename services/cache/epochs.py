"""Which stored answers are invalidated: numbered rules for each tenant, kept as the least that decides about an entry.

An entry carries the tenant's number at the look-up that led to it. A rule hides the entries that it selects and that
carry a smaller number, wherever they lie and whoever brings them back. Knowledge of rules only grows, and two sets of
it merge by taking the larger number of each selector, in any order, any number of times: that is how instances agree.

What is kept of a tenant is bounded. Rules that everything older has outlived, and the oldest beyond the limit, are
folded into one that hides everything below their number: more than was asked for, never less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from services.cache.entry import Entry
from services.cache.request_key import PARTITION_BYTES


class Kind(IntEnum):
    """What a rule selects by. The numbers are stored."""

    EVERYTHING = 0
    REVISION = 1
    TAG = 2
    DIGEST_PREFIX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Entries of one tenant. `value` is the revision or tag in UTF-8, or the first bytes of the digest."""

    kind: Kind
    value: bytes = b""

    def selects(self, key: bytes, entry: Entry) -> bool:
        """Whether the entry under this storage key is one of them."""
        if self.kind is Kind.REVISION:
            return entry.revision.encode() == self.value
        if self.kind is Kind.TAG:
            return self.value in (tag.encode() for tag in entry.tags)
        return self.kind is Kind.EVERYTHING or key.startswith(self.value, PARTITION_BYTES)


EVERYTHING = Selector(kind=Kind.EVERYTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Hides the selected entries of the tenant that carry a smaller number."""

    partition: bytes
    selector: Selector
    number: int

    @property
    def subject(self) -> bytes:
        """Whom and what it is about, for where rules are stored: one number for each subject, the largest."""
        return self.partition + bytes([self.selector.kind]) + self.selector.value


def rule_about(subject: bytes, number: int) -> Rule:
    """The rule that was stored; ValueError for no subject. What only a newer version can select is everything here."""
    if len(subject) <= PARTITION_BYTES:
        raise ValueError("not the subject of a rule")
    try:
        selector = Selector(kind=Kind(subject[PARTITION_BYTES]), value=subject[PARTITION_BYTES + 1 :])
    except ValueError:
        selector = EVERYTHING
    return Rule(partition=subject[:PARTITION_BYTES], selector=selector, number=number)


@dataclass(slots=True, kw_only=True)
class _Tenant:
    number: int = 0
    """The largest of all."""
    floor: int = 0
    """Of the rule that hides everything."""
    rules: dict[Selector, int] = field(default_factory=dict)
    """The others, all above the floor."""

    def hides(self, key: bytes, entry: Entry) -> bool:
        return entry.epoch < self.floor or any(
            entry.epoch < number and selector.selects(key, entry) for selector, number in self.rules.items()
        )

    def raise_floor(self, number: int) -> None:
        self.floor = max(self.floor, number)
        self.rules = {selector: above for selector, above in self.rules.items() if above > self.floor}


class Epochs:
    """All that this process knows of rules."""

    def __init__(self, *, max_rules: int) -> None:
        self._max_rules = max_rules
        self._tenants: dict[bytes, _Tenant] = {}

    def number(self, partition: bytes) -> int:
        """What a look-up of this tenant takes with it; 0 where nothing was ever invalidated."""
        tenant = self._tenants.get(partition)
        return tenant.number if tenant is not None else 0

    def is_visible(self, key: bytes, entry: Entry) -> bool:
        """Whether no rule hides the entry under this storage key."""
        tenant = self._tenants.get(key[:PARTITION_BYTES])
        return tenant is None or entry.epoch >= tenant.number or not tenant.hides(key, entry)

    def add(self, rule: Rule) -> bool:
        """Learn a rule; False where it says nothing new."""
        tenant = self._tenants.setdefault(rule.partition, _Tenant())
        if rule.number <= max(tenant.floor, tenant.rules.get(rule.selector, 0)):
            return False
        tenant.number = max(tenant.number, rule.number)
        if rule.selector == EVERYTHING:
            tenant.raise_floor(rule.number)
            return True
        tenant.rules[rule.selector] = rule.number
        if len(tenant.rules) > self._max_rules:
            tenant.raise_floor(min(tenant.rules.values()))
        return True

    def fold(self, partition: bytes, *, below: int) -> None:
        """Replace the tenant's rules under this number by one that hides everything older than the last of them."""
        tenant = self._tenants.get(partition)
        outlived = [number for number in tenant.rules.values() if number < below] if tenant is not None else []
        if tenant is not None and outlived:
            tenant.raise_floor(max(outlived))

    def rules(self, partition: bytes | None = None) -> Iterator[Rule]:
        """What is kept of one tenant or of all: adding these to another `Epochs` makes it know as much."""
        for name, tenant in list(self._tenants.items()) if partition is None else [self._of(partition)]:
            if tenant.floor:
                yield Rule(partition=name, selector=EVERYTHING, number=tenant.floor)
            for selector, number in list(tenant.rules.items()):
                yield Rule(partition=name, selector=selector, number=number)

    def _of(self, partition: bytes) -> tuple[bytes, _Tenant]:
        return partition, self._tenants.get(partition, _Tenant())
