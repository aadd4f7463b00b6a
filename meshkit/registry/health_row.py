"""What one row of Consul's health endpoint says of an instance; the one place that reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshkit.registry.base import Instance

_CRITICAL = "critical"


def instance_of(service: str, row: Mapping[str, Any]) -> Instance:
    """The instance; a warning still counts as passing. Raises ValueError for a row of another shape."""
    try:
        entry = row["Service"]
        host = entry["Address"] or row["Node"]["Address"]
        return Instance(
            id=entry["ID"],
            service=service,
            address=f"{host}:{entry['Port']}",
            metadata=dict(entry.get("Meta") or {}),
            is_passing=all(check["Status"] != _CRITICAL for check in row["Checks"]),
        )
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"no health row of Consul: {type(problem).__name__}: {problem}") from problem


def complaints_in(row: Mapping[str, Any]) -> str:
    """First lines of what its critical checks say, for people; empty where none is critical."""
    said = (str(check.get("Output") or "").strip() for check in row["Checks"] if check["Status"] == _CRITICAL)
    return "; ".join(text.splitlines()[0] for text in said if text)
