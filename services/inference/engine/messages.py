"""What the RPC process and the engine process say to each other: plain data, nothing else.

The RPC process holds text and streams; the engine process (rank 0) holds tensors. Between them runs one Unix socket
pair that carries these structs as msgpack, each behind a 4-byte big-endian length (see `transport.py`). Requests flow
down (`ToEngine`), events flow up (`FromEngine`). A sequence is answered by `TokensDrawn` entries of which exactly one
has a finish reason, or by one `SequenceFailed`. After `Abort` nothing more is said about that sequence.
"""

from __future__ import annotations

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "cancelled"]


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How a sequence's tokens are drawn; every field is final (defaults were applied by the RPC process)."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: dict[int, float] = {}


class Stopping(msgspec.Struct, frozen=True, kw_only=True):
    """When a sequence ends. Stop strings are the RPC process's matter: it sees text and sends `Abort`."""

    max_tokens: int
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()  # the model's end-of-text tokens included, unless ignore_eos


class AddSequence(msgspec.Struct, frozen=True, kw_only=True, tag="add"):
    """Admit a sequence. The RPC process has checked ids, lengths and ranges."""

    sequence_id: int
    prompt_ids: list[int]
    sampling: Sampling
    stopping: Stopping
    priority: int = 0
    logprobs: int | None = None  # likeliest tokens to report at each position; None: nothing, 0: the drawn one's
    prompt_logprobs: int | None = None
    cache_salt: str = ""  # keys and values are shared among sequences with the same salt alone: the tenant
    deadline_s: float | None = None  # from now; past it the sequence fails with reason "expired"
    ttft_slo_s: float | None = None  # from now to the first token, as wished; it moves the sequence forward


class Abort(msgspec.Struct, frozen=True, kw_only=True, tag="abort"):
    """End a sequence and free its blocks before the next step. Unknown ids are ignored."""

    sequence_id: int


class FlushCache(msgspec.Struct, frozen=True, kw_only=True, tag="flush"):
    """Forget the prefix cache, then say Flushed with the same id."""

    flush_id: int


class PinPrefix(msgspec.Struct, frozen=True, kw_only=True, tag="pin"):
    """Keep the whole blocks of this prefix once they are computed, or stop keeping them; then say PrefixPinned.

    A block is kept as long as one prefix that was pinned has it.
    """

    pin_id: int = 0
    token_ids: list[int]
    cache_salt: str = ""
    is_pinned: bool = True


class Shutdown(msgspec.Struct, frozen=True, kw_only=True, tag="shutdown"):
    """Leave the loop, end the other ranks, exit 0."""


ToEngine = AddSequence | Abort | FlushCache | PinPrefix | Shutdown


class Progress(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """A start-up stage, for people: 'loading weights', 0.4."""

    stage: str
    fraction: float = 0.0
    rank_pids: list[int] = []  # as soon as they are known, rank 0 first


class Ready(msgspec.Struct, frozen=True, kw_only=True, tag="ready"):
    """The engine has drawn a real token on all ranks."""

    architecture: str
    context_tokens: int
    vocabulary_size: int
    parameter_count: int
    dtype: str
    tensor_parallel_size: int
    kv_total_tokens: int
    max_running_count: int
    block_tokens: int = 16  # tokens in a block of the KV cache
    rank_pids: list[int]  # rank 0 first
    all_reduce: str  # "shm", "gloo", "nccl" or "none"
    path: str = "stock"  # "lean": the fast path; "stock: ...": the model's own definition, and why
    quantisation_loss: str = ""  # in words; empty where nothing is quantised


class Fatal(msgspec.Struct, frozen=True, kw_only=True, tag="fatal"):
    """The engine can't go on; it exits after saying so. `advice` says what the operator can do."""

    problem: str
    advice: str = ""


class TokenLogprob(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A token and the natural logarithm of its probability."""

    token_id: int
    logprob: float


class TokenDrawn(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One token of one sequence. `finish` is set on the last one; a matched stop token is the last one too."""

    sequence_id: int
    token_id: int
    finish: FinishReason | None = None
    logprob: float | None = None
    top: list[TokenLogprob] = []
    queue_s: float = 0.0  # with the first token: time from arrival in the engine to the first prefill
    prefill_s: float = 0.0  # with the first token: time from the first prefill to this token
    cached_prompt_tokens: int = 0  # with the first token


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine is busy with after a step."""

    running_count: int = 0
    waiting_count: int = 0
    prefill_backlog_tokens: int = 0
    kv_used_tokens: int = 0
    kv_total_tokens: int = 0
    step_time_s: float = 0.0  # moving average
    generated_token_count: int = 0
    computed_slot_count: int = 0  # tokens that went through the model since the engine's start
    useful_token_count: int = 0  # of those, the ones of live sequences that had not been computed before
    prompt_token_count: int = 0  # of all admitted sequences
    cached_prompt_token_count: int = 0  # of those, the ones that were found in the prefix cache
    preemption_count: int = 0


class StepDone(msgspec.Struct, frozen=True, kw_only=True, tag="step"):
    """All tokens of one step, and the load behind it. Also sent, without tokens, when an abort changed the load."""

    tokens: list[TokenDrawn]
    load: Load


class PromptScored(msgspec.Struct, frozen=True, kw_only=True, tag="prompt_scored"):
    """Log-probabilities of a prompt's tokens from the second on, before the sequence's first token."""

    sequence_id: int
    drawn: list[TokenLogprob]
    top: list[list[TokenLogprob]]


class SequenceFailed(msgspec.Struct, frozen=True, kw_only=True, tag="failed"):
    """This sequence alone ended in an error, or its deadline came; the engine lives on."""

    sequence_id: int
    problem: str
    reason: Literal["error", "expired"] = "error"


class CacheChanged(msgspec.Struct, frozen=True, kw_only=True, tag="cache"):
    """Blocks that came into the prefix cache and left it, by `prefix.block_hash` of all up to their end."""

    stored: list[int]
    evicted: list[int]


class Flushed(msgspec.Struct, frozen=True, kw_only=True, tag="flushed"):
    """The prefix cache is forgotten; `block_count` blocks had been kept by it alone."""

    flush_id: int
    block_count: int


class PrefixPinned(msgspec.Struct, frozen=True, kw_only=True, tag="pinned"):
    """The answer to PinPrefix. `has_room` is False, and nothing has changed, where too much would be kept."""

    pin_id: int
    has_room: bool = True


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """Sent every second by the engine's own loop while it is idle or between steps; silence means a hung engine."""

    step_count: int


FromEngine = (
    Progress
    | Ready
    | Fatal
    | StepDone
    | PromptScored
    | SequenceFailed
    | CacheChanged
    | Flushed
    | PrefixPinned
    | Heartbeat
)
