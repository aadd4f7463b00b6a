"""The model's stock definition on a device: the same tokens as plain transformers, and no waiting between its layers.

Everything runs on the CPU too, or with tensors that have a device and no content ("meta"), where there is no GPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine.kv_cache import KvCache
from services.inference.engine.loading import load_whole_model
from services.inference.engine.messages import Fatal
from services.inference.engine.model_runner import ModelRunner
from services.inference.engine.plan import Chunk, StepPlan
from services.inference.engine.vocabulary import SharedBoard
from tests.integration.inference_engine.test_engine_process import plain_greedy as plain_greedy_on_cpu
from tests.integration.inference_engine.test_engine_process import requests
from tests.integration.inference_engine.test_exactness import DRAWN, prompts
from tests.integration.inference_engine.test_nodes import TwoHosts
from tests.support.engine_process import EngineUnderTest
from tests.support.tiny_model import Family, make_tiny_model
from tests.unit.inference_engine.requests import make_scheduler, request, run_to_end

BLOCKS, LAYERS, LOGIT_ROWS = 64, 4, 64
MIXED = StepPlan(
    step=0,
    chunks=[
        Chunk(sequence_id=0, token_ids=list(range(8, 48)), start=0, block_ids=[1, 2, 3], logit_count=1),
        Chunk(sequence_id=1, token_ids=[9] * 5, start=30, block_ids=[4, 5, 6], logit_count=2),
        Chunk(sequence_id=2, token_ids=[9], start=40, block_ids=[7, 8, 9], logit_count=1),
        Chunk(sequence_id=3, token_ids=[9], start=2, block_ids=[10], logit_count=1),
    ],
)
COPIES = {"aten.to", "aten._to_copy", "aten.copy_"}
WAITS = {"aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero", "aten.item", "aten.masked_select"}


def gpus(count: int) -> Any:
    """Runs where torch can use so many."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    reason = f"{count} NVIDIA GPUs are needed, torch {torch.__version__} finds {found} here"
    return [pytest.mark.gpu, pytest.mark.skipif(found < count, reason=reason)]


DEVICES = ["cpu", pytest.param("cuda", marks=gpus(1))]


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "llama", "mistral", "gemma3"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family: Family = request.param
    return make_tiny_model(tmp_path_factory.mktemp(family), family)


def make_runner(
    checkpoint: Path, device: str, dtype: torch.dtype = torch.float32, kv_cache: KvCache | None = None
) -> ModelRunner:
    place = torch.device(device, 0) if device == "cuda" else torch.device(device)
    model: Any = load_whole_model(checkpoint, dtype).to(place)
    board = SharedBoard.alone(LOGIT_ROWS, model.config.vocab_size)
    return ModelRunner(model, kv_cache or KvCache(BLOCKS), place, board)


@pytest.mark.parametrize("device", DEVICES)
def test_float32_on_a_device_equals_plain_generate_token_for_token(checkpoint: Path, device: str) -> None:
    plain: Any = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation="eager").to(device)
    messages = [request(i, prompt, max_tokens=DRAWN) for i, prompt in enumerate(prompts())]

    transcript = run_to_end(make_runner(checkpoint, device), messages, make_scheduler())

    for i, prompt in enumerate(prompts()):
        asked = torch.tensor([prompt], device=device)
        output = plain.generate(asked, max_new_tokens=DRAWN, do_sample=False, eos_token_id=None, pad_token_id=0)
        assert transcript.ids(i) == output[0].tolist()[len(prompt) :]


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_on_a_device_is_off_by_its_rounding_alone(checkpoint: Path, device: str) -> None:
    """No further from float32 than plain transformers in bfloat16 is: half as much again, for sums in another order."""
    prompt = prompts()[4]
    exact = plain_scores(checkpoint, "cpu", torch.float32, prompt)
    rounded = plain_scores(checkpoint, device, torch.bfloat16, prompt)
    scored = request(0, prompt, prompt_logprobs=0)

    transcript = run_to_end(make_runner(checkpoint, device, torch.bfloat16), [scored], make_scheduler())

    drawn = torch.tensor([one.logprob for one in transcript.scored[0].drawn])
    assert float((drawn - exact).abs().mean()) < 1.5 * float((rounded - exact).abs().mean()) < 0.15


@pytest.mark.parametrize("device", ["meta", pytest.param("cuda", marks=gpus(1))])
def test_step_stays_on_its_device_and_never_waits_for_it(checkpoint: Path, device: str) -> None:
    runner = make_runner(checkpoint, device, torch.bfloat16)
    runner.logits(MIXED)  # the cache's tensors are made in the first step
    with Watch() as watch, waits_are_errors(device):
        logits_Rv = runner.logits(MIXED)
    assert (logits_Rv.device.type, logits_Rv.shape[0]) == (device, MIXED.logit_count)
    assert watch.waits == [] and watch.mixtures == []
    # One copy for what all layers share; for each window two for the decoding chunks and one for each of two prompts.
    windows = {"mistral": 1, "gemma3_text": 2}.get(runner_type(checkpoint), 1)
    assert watch.copies == 1 + 4 * windows


@pytest.mark.parametrize("device", DEVICES)
def test_slots_that_nobody_wrote_may_hold_anything(checkpoint: Path, device: str) -> None:
    """Chunks of different lengths are read in one padded batch."""
    cache = KvCache(BLOCKS)
    runner, dirty = make_runner(checkpoint, device), make_runner(checkpoint, device, kv_cache=cache)
    dirty.logits(MIXED)
    spoil(cache, device)
    fresh = StepPlan(step=0, chunks=[replace(chunk, start=0, block_ids=chunk.block_ids) for chunk in MIXED.chunks])
    for each in (runner, dirty):
        each.logits(fresh)
    following = [replace(chunk, start=chunk.end, token_ids=[11], logit_count=1) for chunk in fresh.chunks]
    step = StepPlan(step=1, chunks=following)
    torch.testing.assert_close(dirty.logits(step), runner.logits(step), rtol=0, atol=0)


@pytest.mark.parametrize("size", [pytest.param(1, marks=gpus(1)), pytest.param(2, marks=gpus(2))])
def test_engine_on_gpus_equals_plain_generate_token_for_token(tmp_path: Path, size: int) -> None:
    checkpoint = make_tiny_model(tmp_path)
    with EngineUnderTest(checkpoint, tensor_parallel_size=size, device="cuda") as engine:
        ready = engine.ready()
        assert (ready.tensor_parallel_size, ready.all_reduce) == (size, "nccl" if size > 1 else "none")
        assert engine.generate(requests()) == plain_greedy_on_cpu(checkpoint)


@pytest.mark.parametrize("wanted", [pytest.param(2, marks=gpus(2))])
def test_engine_on_the_gpus_of_two_hosts_equals_plain_generate_token_for_token(tmp_path: Path, wanted: int) -> None:
    hosts = TwoHosts(make_tiny_model(tmp_path / "model"), tmp_path)
    second = {"CUDA_VISIBLE_DEVICES": "1"}
    with (
        hosts.node(second, ENGINE__DEVICE="cuda", ENGINE__DTYPE="float32"),
        hosts.engine(size=wanted, device="cuda") as engine,
    ):
        assert engine.ready().all_reduce == "nccl"
        assert engine.generate(requests()) == plain_greedy_on_cpu(hosts.model_dir)


def test_rank_without_a_gpu_of_its_own_is_a_clear_error(tmp_path: Path) -> None:
    checkpoint, count = make_tiny_model(tmp_path), 1 + torch.cuda.device_count()
    with EngineUnderTest(checkpoint, tensor_parallel_size=count, device="cuda") as engine:
        fatal = engine.started()
    assert isinstance(fatal, Fatal) and "GPU" in fatal.problem and "engine.device" in fatal.advice


@contextlib.contextmanager
def waits_are_errors(device: str) -> Iterator[None]:
    """Waits that no operation's name tells, such as a copy from memory that isn't pinned."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


class Watch(TorchDispatchMode):
    """What a step makes torch do: wait for the device, mix two devices in one operation, copy to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.mixtures: list[str] = []
        self.copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        name = str(func.overloadpacket)
        result = func(*args, **(kwargs or {}))
        devices = {one.device.type for one in pytree.tree_leaves((args, kwargs, result)) if is_full(one)}
        if name in WAITS:
            self.waits.append(name)
        if name in COPIES and len(devices) > 1:
            self.copies += 1
        elif len(devices) > 1:
            self.mixtures.append(f"{name} {devices}")
        return result


def is_full(value: object) -> bool:
    """Numbers that torch wraps as tensors of no dimension may lie on the CPU."""
    return isinstance(value, Tensor) and value.dim() > 0


@torch.inference_mode()
def spoil(kv_cache: KvCache, device: str) -> None:
    """What a GPU's memory may hold where nothing was written."""
    slots_S = torch.arange(BLOCKS * BLOCK_TOKENS, device=device)
    for layer in range(LAYERS):
        keys_SHD, values_SHD = kv_cache.read(layer, slots_S)
        kv_cache.write(layer, slots_S, keys_SHD.fill_(torch.nan), values_SHD.fill_(torch.nan))


def plain_scores(checkpoint: Path, device: str, dtype: torch.dtype, prompt: list[int]) -> Tensor:
    """The log-probability of each token of the prompt but the first."""
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype, attn_implementation="eager").to(device)
    logits_TV = model(torch.tensor([prompt], device=device)).logits[0].detach().float().cpu()
    return torch.log_softmax(logits_TV, dim=-1)[range(len(prompt) - 1), prompt[1:]]


def runner_type(checkpoint: Path) -> str:
    return str(AutoConfig.from_pretrained(checkpoint).model_type)
