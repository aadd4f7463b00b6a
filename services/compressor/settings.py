"""How the compressor is configured: what a request may hold, when work leaves the event loop, how tokens count,
how long what was left out and what a conversation became are kept, which formats are used unasked, what time is worth,
and who may sum texts up."""

from __future__ import annotations

from dataclasses import dataclass, field

from meshkit.settings import IdentitySettings, ServerSettings, ServiceSettings, require


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What a request may hold."""

    max_protect: int = 256
    """Strings that a caller may mark."""
    max_protect_bytes: int = 4096
    """Of each of them."""
    max_batch: int = 64
    max_session_id_bytes: int = 256
    max_selective_chars: int = 2_000_000
    """Prompts with more are only rewritten, and nothing is left out of them."""

    def __post_init__(self) -> None:
        require(self.max_protect >= 0, "limits.max_protect must not be negative")
        require(self.max_protect_bytes > 0, "limits.max_protect_bytes must be over 0")
        require(self.max_batch > 0, "limits.max_batch must be over 0")
        require(self.max_session_id_bytes > 0, "limits.max_session_id_bytes must be over 0")
        require(self.max_selective_chars >= 0, "limits.max_selective_chars must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkSettings:
    """Where work on text runs."""

    offload_chars: int = 4_096
    """Prompts from this size on are rewritten in a thread."""
    concurrency: int = 2
    """Large prompts at a time."""

    def __post_init__(self) -> None:
        require(self.offload_chars >= 0, "work.offload_chars must not be negative")
        require(self.concurrency > 0, "work.concurrency must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CountingSettings:
    """How tokens are counted."""

    timeout_s: float = 1.0
    """Longest wait for an instance of the model to count; then the count is an estimate."""
    tiktoken_dir: str = ""
    """Folder with tiktoken's encoding files, named as in its TIKTOKEN_CACHE_DIR, to count for hosted models; empty, or
    a file that is missing: estimates. Nothing is downloaded."""

    def __post_init__(self) -> None:
        require(self.timeout_s > 0, "counting.timeout_s must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSettings:
    """Something that is kept in memory for a while, as long as it is used."""

    max_bytes: int = 32 * 1024 * 1024
    """Of all tenants together; what was not used for longest goes first."""
    ttl_s: float = 3600.0

    def __post_init__(self) -> None:
        require(self.max_bytes >= 0, "max_bytes must not be negative")
        require(self.ttl_s > 0, "ttl_s must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenefitSettings:
    """What compression costs beside the prefix-cache reads that it may lose."""

    micro_usd_per_s: float = 11.0
    """Of a stage's time: a core at 0.04 USD an hour. Raise it to what a second of waiting is worth to your callers."""

    def __post_init__(self) -> None:
        require(self.micro_usd_per_s >= 0, "benefit.micro_usd_per_s must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatSettings:
    """Which lossless formats are used unasked."""

    min_quality: float = 0.6
    """Formats with a lower score are used only for callers whose own `min_quality` allows them. See docs/compression.md
    for the scores; 0: all are used."""

    def __post_init__(self) -> None:
        require(0 <= self.min_quality <= 1, "formats.min_quality must be between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SummarySettings:
    """Whether what is left out may be summed up, by what, for whom and at which cost."""

    tier: str = ""
    """Tier of the instances that sum up, such as `fast`; empty: mode ABSTRACTIVE does what SELECTIVE does."""
    tenants: tuple[str, ...] = ()
    """Whose texts may be summed up; empty: everybody's."""
    least_tokens: int = 150
    """Texts that are shorter only get a marker."""
    max_texts: int = 4
    """Of one prompt, the longest."""
    timeout_s: float = 10.0
    input_micro_usd: int = 0
    """What the tier costs per million tokens, weighed in the net benefit."""
    output_micro_usd: int = 0

    def __post_init__(self) -> None:
        require(self.least_tokens > 0, "summary.least_tokens must be over 0")
        require(self.max_texts > 0, "summary.max_texts must be over 0")
        require(self.timeout_s > 0, "summary.timeout_s must be over 0")
        require(self.input_micro_usd >= 0, "summary.input_micro_usd must not be negative")
        require(self.output_micro_usd >= 0, "summary.output_micro_usd must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressorSettings(ServiceSettings):
    """Settings of the compressor service."""

    server: ServerSettings = field(default_factory=lambda: ServerSettings(port=50053))
    identity: IdentitySettings = field(default_factory=lambda: IdentitySettings(accept_forwarded=True))
    limits: LimitSettings = field(default_factory=LimitSettings)
    work: WorkSettings = field(default_factory=WorkSettings)
    counting: CountingSettings = field(default_factory=CountingSettings)
    expansions: KeptSettings = field(default_factory=KeptSettings)
    """What was left out of prompts whose callers asked for handles."""
    sessions: KeptSettings = field(default_factory=KeptSettings)
    """What the messages of each conversation became."""
    formats: FormatSettings = field(default_factory=FormatSettings)
    benefit: BenefitSettings = field(default_factory=BenefitSettings)
    summary: SummarySettings = field(default_factory=SummarySettings)
