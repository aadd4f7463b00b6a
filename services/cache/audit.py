"""The record of who invalidated what, why, and what came of it: one log line each, and the newest ones kept to be read.

A record holds selectors and counts, never a prompt or an answer. What is kept is bounded for each tenant and over all,
and is this instance's own; the log lines are the lasting record.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import asdict, dataclass

from meshkit.telemetry import names
from meshkit.telemetry.logs import get_logger

RECORDS_OF_A_TENANT = 200
_TENANTS = 1000
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One order and its outcome."""

    at: float
    """Unix seconds."""
    tenant: str
    principal: str
    selector: str
    """What was selected: `everything`, `revision`, `tag` or `digest_prefix`."""
    value: str
    """The revision or tag, or the prefix in hex digits."""
    reason: str
    is_applied: bool
    """False: a dry run, which changed nothing."""
    epoch: int
    entry_count: int
    size_bytes: int
    is_exact: bool
    is_shared: bool


class Audit:
    """Writes records, and keeps the applied ones."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, deque[Record]] = OrderedDict()

    def add(self, record: Record) -> None:
        """Log it; keep it where it changed something."""
        _log.info(names.LOG_CACHE_INVALIDATION, **asdict(record))
        if not record.is_applied:
            return
        self._kept.setdefault(record.tenant, deque(maxlen=RECORDS_OF_A_TENANT)).append(record)
        self._kept.move_to_end(record.tenant)
        if len(self._kept) > _TENANTS:
            self._kept.popitem(last=False)

    def of(self, tenant: str) -> list[Record]:
        """The tenant's records, newest first."""
        return list(reversed(self._kept.get(tenant, ())))
