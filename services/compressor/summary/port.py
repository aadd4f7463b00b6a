"""The port of a model that sums texts up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A text in few words, and what it cost."""

    text: str
    cost_micro_usd: float = 0.0


class Summarizer(Protocol):
    """Sums up for tenants that the deployment allows it for. `name` says by what, for the compressor's version."""

    name: str

    def serves(self, tenant: str) -> bool:
        """Whether this tenant's texts may be summed up."""
        ...

    async def summarize(self, text: str, *, query: str, max_tokens: int) -> Summary | None:
        """At most so many tokens; None where no model answers in time or it says nothing. Never raises."""
        ...
