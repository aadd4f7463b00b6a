"""Rank 0: wait for other nodes if any, start the other ranks, load, prove that a token can be drawn, say Ready."""

from __future__ import annotations

import math
import os
import socket
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from msgspec.structs import replace as replaced

from services.inference.engine.blocks import BLOCK_TOKENS, BlockPool
from services.inference.engine.faults import RankFailed, as_fatal
from services.inference.engine.messages import Fatal, Progress, Ready, ToEngine
from services.inference.engine.options import EngineOptions
from services.inference.engine.plan import Chunk, FromRank, Join, Loaded, Room, StepPlan
from services.inference.engine.ranks import EXIT_RANK_LOST, Followers, start_followers
from services.inference.engine.scheduler import Limits, Scheduler
from services.inference.engine.transport import BlockingChannel, EndOfStream

if TYPE_CHECKING:  # these import torch: the other ranks are started, and the environment is set, before that
    from services.inference.engine.loop import Channel, Loop
    from services.inference.engine.nodes.lines import FarNodes
    from services.inference.engine.pool_size import PoolSize
    from services.inference.engine.rank import Prepared, Rank
    from services.inference.engine.rows import Rows, Runner

_WARM_UP_TOKENS = 4
_LAST_WORD_S = 1.0
Said = TypeVar("Said", Room, Loaded)


def lead(options: EngineOptions) -> NoReturn:
    """Serve until told to stop or until the RPC process has gone (status 0); status 1 after Fatal."""
    channel: Channel = BlockingChannel(socket.socket(fileno=options.fd), ToEngine)
    status = 1
    try:
        status = _serve(options, channel)
        sys.stderr.flush()
    finally:
        os._exit(status)  # the exit handlers of torch and DeepSpeed can wait for ranks that are gone


def _serve(options: EngineOptions, channel: Channel) -> int:
    try:
        with tempfile.TemporaryDirectory(prefix="mesh-engine-") as folder:
            loop = _start(_complete(options, folder), channel)
        loop.run()
    except EndOfStream:
        return 0
    except Exception as error:
        _say(as_fatal(error), channel)
        return 1
    return 0


def _complete(options: EngineOptions, folder: str) -> EngineOptions:
    if options.nodes > 1:
        return options
    board_fd = os.memfd_create("logits", 0) if options.tensor_parallel_size > 1 else -1
    rendezvous = Path(folder) / f"meet-{os.getpid()}-{time.monotonic_ns()}"
    return replace(options, board_fd=board_fd, rendezvous=str(rendezvous))


def _start(options: EngineOptions, channel: Channel) -> Loop:
    from services.inference.engine.pool_size import size_pool
    from services.inference.engine.rank import Rank, prepare

    channel.write(Progress(stage="starting", fraction=0.0))
    far: FarNodes | None = None
    if options.nodes > 1:
        options, far = _muster(options, channel)
    others = _Others(start_followers(options, lambda fatal: _say(fatal, channel)), far)
    channel.write(Progress(stage="importing", rank_pids=[os.getpid(), *others.followers.pids]))
    prepare(options)
    size = size_pool(options)
    channel.write(Progress(stage="loading weights", fraction=0.2))
    rank = Rank.load(options)
    options = _sized(options, size, others)
    all_reduce = _choose_all_reduce(options, channel)
    if options.board_fd >= 0:
        _size_board(options, rank.vocabulary_size)
    join = _join(options, all_reduce, channel)
    others.tell(join)
    channel.write(Progress(stage="sharding the model", fraction=0.6))
    prepared = rank.make_runner(join)
    runner = _Leading(prepared.runner, others)
    _hear(others, Loaded)
    channel.write(Progress(stage="drawing a first token", fraction=0.9))
    _warm_up(runner)
    scheduler = _make_scheduler(options, rank.vocabulary_size)

    from services.inference.engine.loop import Loop

    if far is not None:
        far.serve()
    channel.write(_ready(options, rank, others.followers, scheduler, join, prepared))
    return Loop(channel, scheduler, runner, time.monotonic)


def _size_board(options: EngineOptions, vocabulary_size: int) -> None:
    from services.inference.engine.vocabulary import board_bytes

    os.ftruncate(options.board_fd, board_bytes(options.logit_rows, vocabulary_size, options.tensor_parallel_size))


@dataclass(frozen=True, slots=True)
class _Others:
    """All ranks but this one."""

    followers: Followers
    far: FarNodes | None

    def tell(self, message: StepPlan | Join) -> None:
        if self.far is not None:
            self.far.tell(message)
        self.followers.tell(message)

    def hear(self) -> list[FromRank | Fatal]:
        return [*self.followers.hear(), *(self.far.hear() if self.far is not None else [])]

    def await_verdict(self) -> None:
        """After an all-reduce has failed: if one of them is to blame, that is told, and this process ends here."""
        self.followers.await_verdict()
        if self.far is not None:
            self.far.await_verdict()


class _Leading:
    """A Runner that has all ranks run the plan."""

    def __init__(self, runner: Runner, others: _Others) -> None:
        self._runner, self._others = runner, others

    def run(self, plan: StepPlan) -> Rows:
        self._others.tell(plan)
        try:
            return self._runner.run(plan)
        except RuntimeError:
            self._others.await_verdict()
            raise


def _sized(options: EngineOptions, own: PoolSize, others: _Others) -> EngineOptions:
    """With the cache that every rank has room for."""
    kv_tokens = min([own.kv_tokens, *(room.kv_tokens for room in _hear(others, Room))])
    return replace(options, kv_tokens=kv_tokens, context_tokens=min(own.context_tokens, kv_tokens))


def _muster(options: EngineOptions, channel: Channel) -> tuple[EngineOptions, FarNodes]:
    from services.inference.engine.nodes.muster import muster

    def lose(fatal: Fatal) -> None:
        print(f"{fatal.problem}. {fatal.advice}", file=sys.stderr, flush=True)
        with suppress(EndOfStream):
            channel.write_if_free(fatal, _LAST_WORD_S)
        os._exit(EXIT_RANK_LOST)

    return muster(options, lambda stage: channel.write(Progress(stage=stage)), lose)


def _join(options: EngineOptions, all_reduce: str, channel: Channel) -> Join:
    """What all ranks are told before they shard: which all-reduce, and which kernels if any."""
    from services.inference.engine.kernels.build import NoKernels, build
    from services.inference.engine.sample_text import sample_ids

    join = Join(all_reduce=all_reduce, kv_tokens=options.kv_tokens, context_tokens=options.context_tokens)
    if options.device != "cpu":
        return replaced(join, no_kernels="it is for processors, and this is a GPU")
    channel.write(Progress(stage="preparing the kernels", fraction=0.5))
    try:
        library = str(build(options.cache_dir.absolute()))
    except NoKernels as reason:
        channel.write(Progress(stage=f"without the fast path: {reason}", fraction=0.55))
        return replaced(join, no_kernels=str(reason))
    sample = sample_ids(options.model_dir)[: options.context_tokens] if options.quantization != "none" else []
    return replaced(join, kernels=library, sample_ids=sample)


def _choose_all_reduce(options: EngineOptions, channel: Channel) -> str:
    from services.inference.engine import distributed

    if options.tensor_parallel_size == 1:
        return "none"
    if options.device == "cuda":
        return "nccl"
    if options.all_reduce == "gloo" or options.nodes > 1:
        return "gloo"
    channel.write(Progress(stage="preparing the shared-memory all-reduce", fraction=0.4))
    reason = distributed.why_not_shm(options.tensor_parallel_size)
    if reason is None:
        return "shm"
    channel.write(Progress(stage=f"using the slower gloo all-reduce: {reason}", fraction=0.5))
    return "gloo"


def _hear(others: _Others, kind: type[Said]) -> list[Said]:
    """What each of the other ranks says next. Raises RankFailed."""
    heard: list[Said] = []
    for answer in others.hear():
        if isinstance(answer, Fatal):
            raise RankFailed(answer)
        assert isinstance(answer, kind)
        heard.append(answer)
    return heard


def _warm_up(runner: _Leading) -> None:
    """A real prefill and a real decode step on every rank."""
    prompt = Chunk(sequence_id=0, token_ids=[0] * _WARM_UP_TOKENS, start=0, block_ids=[0], logit_count=1)
    token = int(runner.run(StepPlan(step=0, chunks=[prompt])).logits_RV[0].argmax())
    following = Chunk(sequence_id=0, token_ids=[token], start=_WARM_UP_TOKENS, block_ids=[0], logit_count=1)
    logits_RV = runner.run(StepPlan(step=0, chunks=[following])).logits_RV
    if not -math.inf < logits_RV.min() <= logits_RV.max() < math.inf:
        raise ValueError("the model's logits are not numbers")


def _make_scheduler(options: EngineOptions, vocabulary_size: int) -> Scheduler:
    limits = Limits(
        max_sequences=options.max_sequences,
        step_tokens=options.step_tokens,
        logit_rows=options.logit_rows,
        vocabulary_size=vocabulary_size,
        context_tokens=options.context_tokens,
        ageing_s=options.ageing_s,
        batching_window_s=options.batching_window_s,
        output_reserve_tokens=options.output_reserve_tokens or None,
        reuses_prefixes=options.prefix_cache == "on",
    )
    return Scheduler(limits, BlockPool(options.kv_tokens // BLOCK_TOKENS))


def _ready(
    options: EngineOptions, rank: Rank, followers: Followers, scheduler: Scheduler, join: Join, prepared: Prepared
) -> Ready:
    config = rank.model.config.get_text_config()
    return Ready(
        architecture=(rank.model.config.architectures or [type(rank.model).__name__])[0],
        context_tokens=int(getattr(config, "max_position_embeddings", 0)) or options.context_tokens,
        vocabulary_size=rank.vocabulary_size,
        parameter_count=rank.parameter_count,
        dtype=options.dtype if options.quantization == "none" else options.quantization,
        tensor_parallel_size=options.tensor_parallel_size,
        kv_total_tokens=scheduler.load().kv_total_tokens,
        max_running_count=options.max_sequences,
        block_tokens=BLOCK_TOKENS,
        rank_pids=[os.getpid(), *followers.pids],
        all_reduce=join.all_reduce,
        path=prepared.path,
        quantisation_loss=prepared.quantisation_loss,
    )


def _say(fatal: Fatal, channel: Channel) -> None:
    with suppress(EndOfStream):
        channel.write(fatal)
