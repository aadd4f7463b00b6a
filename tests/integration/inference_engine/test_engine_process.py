"""The real engine process: exact at size 1 and 2, gone when it should be, and clear about what it can't do."""

from __future__ import annotations

import json
import os
import pickle
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM

from services.inference.engine.messages import (
    Abort,
    AddSequence,
    Fatal,
    Heartbeat,
    Sampling,
    SequenceFailed,
    Shutdown,
    StepDone,
    Stopping,
)
from tests.support.engine_process import CACHE_DIR, EngineStopped, EngineUnderTest, LentEngine
from tests.support.tiny_model import CONTEXT_TOKENS, make_tiny_model

PROMPT_LENGTHS = (3, 40, 1, 17, 90)
DRAWN = 16
GONE_WITHIN_S = 5.0


def requests() -> list[AddSequence]:
    generator = torch.Generator().manual_seed(7)
    prompts = [torch.randint(8, 390, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS]
    return [greedy(i, prompt, DRAWN) for i, prompt in enumerate(prompts)]


def greedy(sequence_id: int, prompt: list[int], max_tokens: int) -> AddSequence:
    return AddSequence(
        sequence_id=sequence_id,
        prompt_ids=prompt,
        sampling=Sampling(temperature=0.0),
        stopping=Stopping(max_tokens=max_tokens),
    )


def plain_greedy(checkpoint: Path) -> dict[int, list[int]]:
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint)
    drawn = {}
    for message in requests():
        prompt = torch.tensor([message.prompt_ids])
        output = model.generate(prompt, max_new_tokens=DRAWN, do_sample=False, eos_token_id=None, pad_token_id=0)
        drawn[message.sequence_id] = output[0].tolist()[len(message.prompt_ids) :]
    return drawn


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture(
    scope="module",
    params=[("qwen2", 1, "none"), ("qwen2", 2, "shm"), ("gemma3", 2, "shm"), ("llama", 2, "gloo")],
    ids=lambda param: "-".join(map(str, param)),
)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    family, size, all_reduce = request.param
    checkpoint = make_tiny_model(tmp_path_factory.mktemp("served"), family)
    choice = "gloo" if all_reduce == "gloo" else "auto"
    lent = LentEngine(lambda: EngineUnderTest(checkpoint, tensor_parallel_size=size, all_reduce=choice))
    yield Served(checkpoint=checkpoint, size=size, all_reduce=all_reduce, lent=lent)
    lent.end()


def test_greedy_output_equals_plain_generate_token_for_token(served: Served) -> None:
    engine, ready = served.lent.lend()
    sizes = (ready.tensor_parallel_size, ready.all_reduce, len(ready.rank_pids))
    assert sizes == (served.size, served.all_reduce, served.size)
    assert ready.path == "lean"
    assert engine.generate(requests()) == plain_greedy(served.checkpoint)


def test_idle_ranks_beat_and_burn_no_processor_time(served: Served) -> None:
    engine, ready = served.lent.lend()
    ranks = processes(ready.rank_pids)
    engine.generate([greedy(1, [9, 10], 3)])
    assert isinstance(engine.read(), Heartbeat)
    before = [busy_s(rank) for rank in ranks]
    for _ in range(2):
        assert isinstance(engine.read(), Heartbeat)
    # two idle seconds; a spinning rank would use them all
    assert all(busy_s(rank) - spent < 0.5 for rank, spent in zip(ranks, before, strict=True))


def test_abort_frees_the_blocks_and_says_nothing_more_of_the_sequence(served: Served) -> None:
    engine, _ = served.lent.lend()
    engine.channel.write(greedy(1, [9] * 30, 1500))
    wait_for_token(engine)
    engine.channel.write(Abort(sequence_id=1))
    engine.channel.write(greedy(2, [9], 100))
    after_abort = [event for event in until_finished(engine, 2) if any(t.sequence_id == 2 for t in event.tokens)]
    assert all(token.sequence_id == 2 for event in after_abort for token in event.tokens)
    assert after_abort[-1].load.kv_used_tokens == 0


def test_request_that_can_not_be_run_fails_alone(served: Served) -> None:
    engine, _ = served.lent.lend()
    for bad in (greedy(1, [9], 5000), greedy(2, [100_000], 4)):
        engine.channel.write(bad)
        failed = next_but_heartbeats(engine)
        assert isinstance(failed, SequenceFailed) and failed.sequence_id == bad.sequence_id
    assert len(engine.generate([greedy(3, [9], 4)])[3]) == 4


def test_shutdown_ends_all_ranks(served: Served) -> None:
    engine, ready = served.lent.lend()
    ranks = processes(ready.rank_pids)
    engine.channel.write(Shutdown())
    assert engine.process.wait(GONE_WITHIN_S) == 0
    assert psutil.wait_procs(ranks, GONE_WITHIN_S)[1] == []


@pytest.mark.parametrize("size", [1, 2])
def test_int8_tells_what_it_loses_and_answers_like_float32_but_for_near_ties(checkpoint: Path, size: int) -> None:
    with EngineUnderTest(checkpoint, tensor_parallel_size=size, quantization="int8") as engine:
        ready = engine.ready()
        drawn = engine.generate(requests())
    assert (ready.dtype, ready.path) == ("int8", "lean")
    assert "against float32" in ready.quantisation_loss
    firsts = {i: tokens[0] for i, tokens in plain_greedy(checkpoint).items()}
    same = sum(drawn[i][0] == first for i, first in firsts.items())
    # Random weights have near ties: one position in ten may flip, not two of these five.
    assert same >= len(firsts) - 1 and all(len(tokens) == DRAWN for tokens in drawn.values())


def test_int8_without_a_compiler_is_a_clear_error(checkpoint: Path, tmp_path: Path) -> None:
    environment = {"PATH": str(tmp_path)}
    with EngineUnderTest(checkpoint, environment, quantization="int8", cache_dir=tmp_path) as engine:
        fatal = engine.started()
    assert isinstance(fatal, Fatal)
    assert "install g++" in fatal.problem and "float32" in fatal.advice


def test_without_a_compiler_the_engine_says_so_and_uses_gloo(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "kernels").symlink_to(CACHE_DIR / "kernels")  # these are no matter here, and take seconds to build
    with EngineUnderTest(checkpoint, {"CXX": "/bin/false"}, tensor_parallel_size=2, cache_dir=tmp_path) as engine:
        assert engine.ready().all_reduce == "gloo"
        assert any("gloo" in stage and "g++" in stage for stage in engine.stages)
        assert len(engine.generate([greedy(1, [9, 10], 3)])[1]) == 3


@pytest.fixture
def pair(checkpoint: Path) -> Iterator[EngineUnderTest]:
    with EngineUnderTest(checkpoint, tensor_parallel_size=2) as engine:
        yield engine


def test_death_of_a_rank_while_decoding_ends_the_whole_engine(pair: EngineUnderTest) -> None:
    ranks = processes(pair.ready().rank_pids)
    pair.channel.write(greedy(1, [9, 10], 1500))
    wait_for_token(pair)
    ranks[1].kill()
    assert pair.process.wait(GONE_WITHIN_S) != 0


def test_death_of_a_rank_while_idle_ends_the_whole_engine(pair: EngineUnderTest) -> None:
    ranks = processes(pair.ready().rank_pids)
    ranks[1].kill()
    assert pair.process.wait(GONE_WITHIN_S) != 0


def test_death_of_rank_0_ends_the_other_ranks(pair: EngineUnderTest) -> None:
    ranks = processes(pair.ready().rank_pids)
    pair.channel.write(greedy(1, [9, 10], 1500))
    wait_for_token(pair)
    os.kill(ranks[0].pid, signal.SIGKILL)
    pair.process.wait(GONE_WITHIN_S)
    assert psutil.wait_procs(ranks, GONE_WITHIN_S)[1] == []


def test_end_of_the_socket_ends_all_ranks(pair: EngineUnderTest) -> None:
    ranks = processes(pair.ready().rank_pids)
    pair.channel.close()
    pair.process.wait(GONE_WITHIN_S)
    assert psutil.wait_procs(ranks, GONE_WITHIN_S)[1] == []


def test_checkpoint_cut_short_is_fatal_with_advice(tmp_path: Path) -> None:
    weights = make_tiny_model(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with EngineUnderTest(tmp_path) as engine:
        fatal = engine.started()
        assert isinstance(fatal, Fatal) and "truncated" in fatal.problem and fatal.advice
        assert engine.process.wait(GONE_WITHIN_S) == 1


@pytest.mark.parametrize(("size", "sequences", "expected"), [(1, 4, 4 * CONTEXT_TOKENS), (2, 3, 3 * CONTEXT_TOKENS)])
def test_cache_without_a_size_holds_every_sequence_s_context_but_no_sequence_beyond_it(
    checkpoint: Path, size: int, sequences: int, expected: int
) -> None:
    with EngineUnderTest(
        checkpoint, tensor_parallel_size=size, kv_tokens=0, context_tokens=0, max_sequences=sequences
    ) as engine:
        ready = engine.ready()
        assert (ready.kv_total_tokens, ready.context_tokens) == (expected, CONTEXT_TOKENS)
        assert engine.generate(requests())[1] == plain_greedy(checkpoint)[1]
        engine.channel.write(greedy(9, [9] * CONTEXT_TOKENS, 1))
        failed = next_but_heartbeats(engine)
        assert isinstance(failed, SequenceFailed) and "the context of 512" in failed.problem
        assert len(engine.generate([greedy(10, [9], 4)])[10]) == 4


def test_share_of_memory_that_holds_no_context_is_fatal_with_advice(checkpoint: Path) -> None:
    with EngineUnderTest(checkpoint, kv_tokens=0, memory_share=1e-9) as engine:
        fatal = engine.started()
        assert isinstance(fatal, Fatal) and "may need 2048" in fatal.problem and "memory_share" in fatal.advice


@pytest.mark.parametrize("size", [1, 2])
def test_weights_larger_than_memory_are_fatal_with_advice_before_any_is_read(tmp_path: Path, size: int) -> None:
    weights, count = make_tiny_model(tmp_path) / "model.safetensors", 2**38
    tensor = {"dtype": "F32", "shape": [count // 64, 64], "data_offsets": [0, 4 * count]}
    header = json.dumps({"model.embed_tokens.weight": tensor}).encode()
    weights.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(weights, 8 + len(header) + 4 * count)  # a tebibyte that takes no room on the disk
    with EngineUnderTest(tmp_path, tensor_parallel_size=size, kv_tokens=0) as engine:
        fatal = engine.started()
        assert isinstance(fatal, Fatal) and "1024.0 GiB weights while it starts" in fatal.problem
        assert "smaller model" in fatal.advice
        assert engine.process.wait(GONE_WITHIN_S) == 1


def test_pickled_checkpoint_is_fatal_and_never_opened(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    with EngineUnderTest(tmp_path) as engine:
        fatal = engine.started()
        assert isinstance(fatal, Fatal) and "pickled weights only" in fatal.problem and "safetensors" in fatal.advice
    assert not (tmp_path / "exploded").exists()


def test_kv_cache_larger_than_memory_is_fatal_with_advice(checkpoint: Path) -> None:
    with EngineUnderTest(checkpoint, kv_tokens=10**12) as engine:
        fatal = engine.started()
        assert isinstance(fatal, Fatal) and "are available" in fatal.problem and "KV cache" in fatal.advice


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An engine, and what it was started with."""

    checkpoint: Path
    size: int
    all_reduce: str
    lent: LentEngine


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._file),)


def processes(pids: list[int]) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in pids]


def busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def next_but_heartbeats(engine: EngineUnderTest) -> object:
    while isinstance(event := engine.read(), Heartbeat):
        pass
    return event


def wait_for_token(engine: EngineUnderTest) -> None:
    while True:
        event = engine.read()
        if isinstance(event, StepDone) and event.tokens:
            return


def until_finished(engine: EngineUnderTest, sequence_id: int) -> Iterator[StepDone]:
    while True:
        event = engine.read()
        if isinstance(event, StepDone):
            yield event
            if any(token.sequence_id == sequence_id and token.finish for token in event.tokens):
                return
        elif isinstance(event, SequenceFailed):
            raise EngineStopped(event.problem)
