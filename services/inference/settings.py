"""What a deployer can set on an inference instance: which model, how it is run, what a request may ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from meshkit.settings import IdentitySettings, ServerSettings, ServiceSettings, require
from services.inference.engine.limits import LONGEST_BATCHING_WINDOW_S
from services.inference.nodes_settings import NodesSettings

ENGINE_KINDS = ("deepspeed", "echo")
DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What is served, and under which name."""

    source: str = ""
    """A directory, a .gguf file, a hub id or packaged:NAME. May be empty for the echo engine."""
    name: str = ""
    """The name that callers use; empty: the last part of the source."""
    tier: str = "standard"
    """The tier that the router offers this model in."""
    cache_dir: Path = Path(".cache/models")
    """Where downloads and conversions are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How tokens are drawn."""

    kind: str = "deepspeed"
    """deepspeed, or echo: a test double that answers with the prompt."""
    tensor_parallel_size: int = 0
    """Ranks that share the weights; 0: two where there are two cores or GPUs, else one. Over several hosts (`nodes`) it
    counts all of them; 0: one on each host."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dtype: str = "auto"
    """Number type of the weights; auto: float32 on a processor, bfloat16 on a GPU. int8: a quarter of float32's memory
    traffic and several times its speed on a processor; what it loses is measured at start and told by GetModelInfo."""
    threads_per_rank: int = 0
    """0: an even share of the cores."""
    context_tokens: int = 0
    """Most tokens of prompt and answer together; 0: as much as the model and the KV cache allow."""
    kv_tokens: int = 0
    """Tokens whose keys and values fit in the cache, over all sequences; 0: as many as memory_share holds, and no more
    than max_sequences contexts."""
    memory_share: float = 0.0
    """For kv_tokens 0. On a processor the part of what is available beside the weights; on a GPU the part of its
    memory that weights, activations and cache fill together. 0: 0.25 on a processor, 0.9 on a GPU."""
    max_sequences: int = 64
    """Most sequences in one step."""
    max_waiting_sequences: int = 256
    """Sequences that may wait for a place; more are refused with RESOURCE_EXHAUSTED."""
    retry_after_s: float = 1.0
    """What a refused caller is told to wait."""
    requeue_s: float = 0.0
    """How long a request that has no token yet waits, once, for an engine that is being started again. 0: it fails at
    once, so that a router asks another instance; where there is no other, 30 saves it."""
    step_tokens: int = 512
    """Most tokens computed in one step: the size of a prefill's chunks."""
    ageing_s: float = 5.0
    """Waiting for this long is worth a step of priority: after 21 times this nobody who arrives goes first."""
    batching_window_s: float = 0.0
    """While nothing runs, the first request waits this long for company; at most 0.05."""
    output_reserve_tokens: int = 0
    """KV tokens reserved for an answer when it is admitted; 0: all of its max_tokens. With fewer, more run at a time,
    and some may have to be computed anew."""
    prefix_cache: str = "on"
    """on, or off: whether prompts find the keys and values of earlier ones of the same tenant."""
    echo_tokens_per_s: float = 0.0
    """Pace of one echoed sequence; 0: at once."""

    def __post_init__(self) -> None:
        require(self.kind in ENGINE_KINDS, f"engine.kind must be one of {', '.join(ENGINE_KINDS)}")
        require(self.dtype in DTYPES, f"engine.dtype must be one of {', '.join(DTYPES)}")
        require(self.device in ("auto", "cpu", "cuda"), "engine.device must be one of auto, cpu, cuda")
        require(self.dtype != "int8" or self.device != "cuda", "engine.dtype int8 is for engine.device cpu")
        for name in ("max_sequences", "step_tokens"):
            require(getattr(self, name) > 0, f"engine.{name} must be over 0")
        for name in ("tensor_parallel_size", "threads_per_rank", "context_tokens", "max_waiting_sequences"):
            require(getattr(self, name) >= 0, f"engine.{name} must not be negative")
        require(self.kv_tokens >= 0, "engine.kv_tokens must not be negative")
        require(0 <= self.memory_share <= 0.95, "engine.memory_share must be in [0, 0.95]")
        require(self.step_tokens >= self.max_sequences, "engine.step_tokens must not be under engine.max_sequences")
        require(self.requeue_s >= 0, "engine.requeue_s must not be negative")
        require(self.ageing_s > 0, "engine.ageing_s must be over 0")
        require(
            0 <= self.batching_window_s <= LONGEST_BATCHING_WINDOW_S,
            f"engine.batching_window_s must be in [0, {LONGEST_BATCHING_WINDOW_S}]",
        )
        require(self.prefix_cache in ("on", "off"), "engine.prefix_cache must be on or off")
        require(self.output_reserve_tokens >= 0, "engine.output_reserve_tokens must not be negative")
        require(self.echo_tokens_per_s >= 0, "engine.echo_tokens_per_s must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogSettings:
    """How long the engine process may take for what, and how soon it is started again."""

    start_timeout_s: float = 600.0
    """From spawn to the first token; includes compiling the all-reduce once."""
    silence_s: float = 3.5
    """A rank that neither lets the engine speak nor uses its processor for this long has hung."""
    longest_step_s: float = 60.0
    """An engine that says nothing for this long has hung, however busy it looks."""
    shutdown_grace_s: float = 3.0
    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0

    def __post_init__(self) -> None:
        require(self.silence_s >= 1.5, "watchdog.silence_s must be at least 1.5: an idle engine speaks every 1 s")
        require(self.longest_step_s >= self.silence_s, "watchdog.longest_step_s must not be under watchdog.silence_s")
        for name in ("start_timeout_s", "first_backoff_s"):
            require(getattr(self, name) > 0, f"watchdog.{name} must be over 0")
        require(self.longest_backoff_s >= self.first_backoff_s, "watchdog.longest_backoff_s is under the first")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """How answers are cut into messages, and what a request gets that doesn't say."""

    flush_interval_s: float = 0.015
    """Tokens that come closer together than this share a message; the first goes at once."""
    flush_tokens: int = 8
    """A message goes when it holds this many tokens."""
    default_max_tokens: int = 256
    """For requests without max_tokens, as far as the context allows."""

    def __post_init__(self) -> None:
        require(self.flush_interval_s >= 0, "stream.flush_interval_s must not be negative")
        require(self.flush_tokens > 0, "stream.flush_tokens must be over 0")
        require(self.default_max_tokens > 0, "stream.default_max_tokens must be over 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceSettings(ServiceSettings):
    """All settings of an inference instance."""

    server: ServerSettings = field(default_factory=lambda: ServerSettings(port=50061))
    identity: IdentitySettings = field(default_factory=lambda: IdentitySettings(accept_forwarded=True))
    model: ModelSettings = field(default_factory=ModelSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    watchdog: WatchdogSettings = field(default_factory=WatchdogSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    nodes: NodesSettings = field(default_factory=NodesSettings)

    def __post_init__(self) -> None:
        self._require_equal_nodes()
        require(bool(self.model.source) or self.engine.kind == "echo", "model.source is empty: name a model to serve")

    def _require_equal_nodes(self) -> None:
        count, ranks = self.nodes.count, self.engine.tensor_parallel_size
        require(count == 1 or self.engine.kind != "echo", "nodes.count must be 1 for engine.kind echo")
        require(
            ranks % count == 0,
            f"engine.tensor_parallel_size counts the ranks of all hosts: {ranks} can't be shared evenly by {count}, "
            "the nodes.count",
        )
        require(
            count == 1 or self.nodes.join_timeout_s < self.watchdog.start_timeout_s,
            "nodes.join_timeout_s must be under watchdog.start_timeout_s, which covers the wait for other hosts too",
        )

    @property
    def model_name(self) -> str:
        """The name that callers use."""
        if self.model.name:
            return self.model.name
        last_part = self.model.source.rpartition(":")[2].partition("@")[0]
        return Path(last_part).name.removesuffix(".gguf") or "echo"
