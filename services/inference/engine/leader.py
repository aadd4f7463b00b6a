"""Rank 0: start the other ranks, load, prove that a token can be drawn, say Ready, then loop."""

from __future__ import annotations

import math
import os
import socket
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from services.inference.engine.blocks import BLOCK_TOKENS, BlockPool
from services.inference.engine.faults import RankFailed, as_fatal
from services.inference.engine.messages import Fatal, Progress, Ready, ToEngine
from services.inference.engine.options import EngineOptions
from services.inference.engine.plan import Chunk, Join, Loaded, StepPlan
from services.inference.engine.ranks import Followers, start_followers
from services.inference.engine.scheduler import Limits, Scheduler
from services.inference.engine.transport import BlockingChannel, EndOfStream

if TYPE_CHECKING:  # these import torch: the other ranks are started, and the environment is set, before that
    from services.inference.engine.loop import Channel, Loop
    from services.inference.engine.rank import Prepared, Rank
    from services.inference.engine.rows import Rows, Runner

_WARM_UP_TOKENS = 4


def lead(options: EngineOptions) -> NoReturn:
    """Serve until told to stop or until the RPC process has gone (status 0); status 1 after Fatal."""
    channel: Channel = BlockingChannel(socket.socket(fileno=options.fd), ToEngine)
    status = _serve(options, channel)
    sys.stderr.flush()
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
    board_fd = os.memfd_create("logits", 0) if options.tensor_parallel_size > 1 else -1
    rendezvous = Path(folder) / f"meet-{os.getpid()}-{time.monotonic_ns()}"
    return replace(options, board_fd=board_fd, rendezvous=str(rendezvous))


def _start(options: EngineOptions, channel: Channel) -> Loop:
    from services.inference.engine.rank import Rank, prepare

    channel.write(Progress(stage="starting", fraction=0.0))
    followers = start_followers(options)
    prepare(options)
    _check_memory(options)
    channel.write(Progress(stage="loading weights", fraction=0.2))
    rank = Rank.load(options)
    all_reduce = _choose_all_reduce(options, channel)
    if options.tensor_parallel_size > 1:
        _size_board(options, rank.vocabulary_size)
    join = _join(options, all_reduce, channel)
    followers.tell(join)
    channel.write(Progress(stage="sharding the model", fraction=0.6))
    prepared = rank.make_runner(join)
    runner = _Leading(prepared.runner, followers)
    _await_followers(followers)
    channel.write(Progress(stage="drawing a first token", fraction=0.9))
    _warm_up(runner)
    scheduler = _make_scheduler(options, rank.vocabulary_size)

    from services.inference.engine.loop import Loop

    channel.write(_ready(options, rank, followers, scheduler, join, prepared))
    return Loop(channel, scheduler, runner, time.monotonic)


def _size_board(options: EngineOptions, vocabulary_size: int) -> None:
    from services.inference.engine.vocabulary import board_bytes

    os.ftruncate(options.board_fd, board_bytes(options.logit_rows, vocabulary_size, options.tensor_parallel_size))


class _Leading:
    """A Runner that has all ranks run the plan."""

    def __init__(self, runner: Runner, followers: Followers) -> None:
        self._runner, self._followers = runner, followers

    def run(self, plan: StepPlan) -> Rows:
        self._followers.tell(plan)
        return self._runner.run(plan)


def _check_memory(options: EngineOptions) -> None:
    import torch

    from services.inference.engine import memory
    from services.inference.engine.loading import load_config
    from services.inference.models.safetensors_files import element_count

    config = load_config(options.model_dir).get_text_config()
    element_bytes = getattr(torch, options.dtype).itemsize
    memory.require_memory(
        weight_bytes=element_count(options.model_dir) * element_bytes,
        kv_cache_bytes=memory.kv_bytes(config, options.kv_tokens, element_bytes),
        rank_count=options.tensor_parallel_size,
    )


def _join(options: EngineOptions, all_reduce: str, channel: Channel) -> Join:
    """What all ranks are told before they shard: which all-reduce, and which kernels if any."""
    from services.inference.engine.kernels.build import NoKernels, build
    from services.inference.engine.sample_text import sample_ids

    if options.device != "cpu":
        return Join(all_reduce=all_reduce, no_kernels="it is for processors, and this is a GPU")
    channel.write(Progress(stage="preparing the kernels", fraction=0.5))
    try:
        library = str(build(options.cache_dir.absolute()))
    except NoKernels as reason:
        channel.write(Progress(stage=f"without the fast path: {reason}", fraction=0.55))
        return Join(all_reduce=all_reduce, no_kernels=str(reason))
    sample = sample_ids(options.model_dir) if options.quantization != "none" else []
    return Join(all_reduce=all_reduce, kernels=library, sample_ids=sample)


def _choose_all_reduce(options: EngineOptions, channel: Channel) -> str:
    from services.inference.engine import distributed

    if options.tensor_parallel_size == 1:
        return "none"
    if options.device == "cuda":
        return "nccl"
    if options.all_reduce == "gloo":
        return "gloo"
    channel.write(Progress(stage="preparing the shared-memory all-reduce", fraction=0.4))
    reason = distributed.why_not_shm(options.tensor_parallel_size)
    if reason is None:
        return "shm"
    channel.write(Progress(stage=f"using the slower gloo all-reduce: {reason}", fraction=0.5))
    return "gloo"


def _await_followers(followers: Followers) -> None:
    for answer in followers.hear():
        if isinstance(answer, Fatal):
            raise RankFailed(answer)
        assert isinstance(answer, Loaded)


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
        context_tokens=int(getattr(config, "max_position_embeddings", 0)) or options.kv_tokens,
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
