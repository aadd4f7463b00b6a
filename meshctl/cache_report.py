"""What the cache's operations say to a person, in a line or a small table."""

from collections.abc import Iterable, Sequence

from mesh.cache.v1 import cache_service_pb2 as pb
from meshctl.cache_asking import megabytes

_UNSHARED = (
    "the shared server is away: this instance obeys now, the others when it is back, or after their epochs.grace_s"
)


def stats(reply: pb.StatsResponse) -> str:
    """A table of the tiers. A hit ratio is of the look-ups that reached the tier."""
    rows = [("tier", "look-ups", "hits", "hit ratio", "entries", "held", "budget", "evicted", "unreadable", "errors")]
    for tier in reply.tiers:
        ratio = f"{tier.hit_count / tier.lookup_count:.1%}" if tier.lookup_count else "-"
        counts = (tier.entry_count, tier.eviction_count, tier.unreadable_count, tier.error_count)
        entries, evicted, unreadable, errors = (_known(count) for count in counts)
        held, budget = (megabytes(size) if size >= 0 else "?" for size in (tier.size_bytes, tier.budget_bytes))
        name = _tier(tier.tier)
        lookups, hits = f"{tier.lookup_count:,}", f"{tier.hit_count:,}"
        rows.append((name, lookups, hits, ratio, entries, held, budget, evicted, unreadable, errors))
    return _table(rows)


def invalidated(reply: pb.InvalidateResponse, *, is_applied: bool) -> str:
    verb = "forgot" if is_applied else "would forget"
    at_least = "" if reply.exact else "at least "
    tiers = ", ".join(
        f"{_tier(one.tier)} {one.entry_count:,}{'' if one.complete else ' or more'}" for one in reply.tiers
    )
    line = f"{verb} {at_least}{reply.entry_count:,} entries, {megabytes(reply.size_bytes)} ({tiers})"
    if not is_applied:
        return f"{line}\nnothing was changed; --apply --reason TEXT does it"
    return f"{line}\nepoch {reply.epoch}: {_reach(reply.shared)}"


def bumped(reply: pb.BumpEpochResponse) -> str:
    return f"epoch {reply.epoch}: {_reach(reply.shared)}"


def audit(reply: pb.ListInvalidationsResponse) -> str:
    if not reply.records:
        return "nothing was invalidated since this instance started"
    rows = [("at", "by", "what", "entries", "epoch", "why")]
    for record in reply.records:
        what = f"{record.selector} {record.value}".strip()
        entries = f"{'' if record.exact else '>= '}{record.entry_count:,}"
        by = record.principal or "-"
        rows.append((record.at.ToJsonString(), by, what, entries, f"{record.epoch}", record.reason or "-"))
    return _table(rows)


def warmed(reply: pb.ImportResponse) -> str:
    left_out = (
        (reply.expired_count, "over"),
        (reply.invalidated_count, "invalidated here since: --as-new loads them too"),
        (reply.refused_count, "outside this cache's limits"),
    )
    reasons = "; ".join(f"{count:,} {why}" for count, why in left_out if count)
    return f"{reply.stored_count:,} entries loaded" + (f"; left out: {reasons}" if reasons else "")


def _reach(is_shared: bool) -> str:
    return "every instance obeys within a second" if is_shared else _UNSHARED


def _tier(tier: pb.CacheTier) -> str:
    return pb.CacheTier.Name(tier).removeprefix("CACHE_TIER_")


def _known(count: int) -> str:
    return f"{count:,}" if count >= 0 else "?"


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Iterable[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
