"""What is asked of the compressor and what it answers, as values: an order in, an outcome out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from services.compressor.prompt_text import Part
from services.compressor.stages.stage import UNCHANGED, Loss, Quality
from services.compressor.tariff import UNKNOWN, Tariff

DEFAULT_TARGET = 0.5
"""Of SELECTIVE, where the caller names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A message of an earlier turn, which stays what it became."""

    original: str
    sent: str
    left_out: tuple[str, ...] = ()
    """The runs of text that markers stand for."""
    rewritten_by: frozenset[str] = frozenset()
    """The lossless stages that changed something in its turn."""
    is_summed_up: bool = False
    """Whether summaries stand for some of what is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to compress, and within which bounds."""

    parts: tuple[Part, ...]
    """What may change; `settled` comes before it."""
    settled: tuple[Settled, ...] = ()
    last_sent: tuple[str, ...] = ()
    """The texts of this conversation that the reader's prefix cache may hold: what went out last time."""
    protect: tuple[str, ...] = ()
    frozen_bytes: int = 0
    """At the head of `parts`."""
    target_ratio: float | None = None
    min_quality: float | None = None
    is_selective: bool = False
    is_abstractive: bool = False
    """What is left out may be summed up; with `is_selective` only."""
    keeps_answers: bool = False
    """The assistant's own turns stay: in a conversation the reader's prefix cache holds them as they were said."""
    earlier_choices: Mapping[str, float] = field(default_factory=dict)
    """What the selector notes of all that earlier turns left out, now that another question is asked."""
    earlier_query: str = ""
    """The live instruction where `parts` hold none."""
    handle_of: Callable[[str], str] | None = None
    """The handle under which a left-out text can be fetched; None: markers name none."""
    tariff: Tariff = UNKNOWN

    @property
    def target(self) -> float | None:
        """Wanted compressed / original tokens; None: as few as the lossless stages make it."""
        return DEFAULT_TARGET if self.target_ratio is None and self.is_selective else self.target_ratio

    @property
    def original(self) -> tuple[str, ...]:
        """All texts as the caller sent them."""
        return (*(one.original for one in self.settled), *(part.text for part in self.parts))

    @property
    def sent_before(self) -> tuple[str, ...]:
        """The texts of the settled messages."""
        return tuple(one.sent for one in self.settled)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """A stage's entry in the ledger."""

    stage: str
    loss: Loss
    tokens_before: int
    tokens_after: int
    duration_s: float
    segment_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The texts to send, in the order of the messages, and the account."""

    texts: tuple[str, ...]
    left_out: tuple[tuple[str, ...], ...] = ()
    """Of each message, the runs that markers stand for."""
    handles: Mapping[str, str] = field(default_factory=dict)
    """What each handle in the texts stands for."""
    rewritten_by: frozenset[str] = frozenset()
    """The lossless stages that changed something."""
    is_summed_up: bool = False
    """Whether summaries stand for some of what is left out."""
    original_tokens: int
    compressed_tokens: int
    quality: Quality = UNCHANGED
    is_prefix_kept: bool = True
    stages: tuple[StageReport, ...] = ()
    reason_original_kept: str = ""
    is_estimate: bool = False
    net_benefit_micro_usd: float | None = None
    """None where no price is known."""

    @property
    def token_reduction(self) -> float:
        """1 - compressed / original; 0..1."""
        return 1.0 - self.compressed_tokens / self.original_tokens if self.original_tokens else 0.0
