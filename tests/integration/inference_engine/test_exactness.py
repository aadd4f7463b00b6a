"""The packed, paged engine draws exactly what a plain forward loop draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from services.inference.engine.kernels.build import NoKernels, build
from services.inference.engine.kernels.native import Kernels
from services.inference.engine.kv_cache import KvCache
from services.inference.engine.lean import verify
from services.inference.engine.lean.adopt import adopt
from services.inference.engine.lean.runner import LeanRunner
from services.inference.engine.loading import load_whole_model
from services.inference.engine.model_runner import ModelRunner
from services.inference.engine.rows import Runner
from services.inference.engine.vocabulary import SharedBoard
from tests.integration.inference_engine import arrivals
from tests.support.engine_process import CACHE_DIR
from tests.support.real import missing
from tests.support.tiny_model import CONTEXT_TOKENS, Family, make_tiny_model
from tests.unit.inference_engine.requests import Transcript, make_scheduler, request, run_step, run_to_end

PROMPT_LENGTHS = (3, 40, 1, 17, 90, 33)  # across block borders, the step budget of 32 and Gemma's window of 24
DRAWN = 16

torch.set_num_threads(1)  # two threads only get into each other's way at this size


def prompts(vocabulary_size: int = 390) -> list[list[int]]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randint(8, vocabulary_size, (length,), generator=generator).tolist() for length in PROMPT_LENGTHS]


def plain_greedy(model: Any, prompt: list[int]) -> list[int]:
    output = model.generate(
        torch.tensor([prompt]), max_new_tokens=DRAWN, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    drawn: list[int] = output[0].tolist()[len(prompt) :]
    return drawn


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "llama", "mistral", "gemma3"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family: Family = request.param
    return make_tiny_model(tmp_path_factory.mktemp(family), family)


@pytest.fixture(scope="module", params=["stock", "lean"])
def path(request: pytest.FixtureRequest) -> str:
    """The model's own definition, and the fast path."""
    return str(request.param)


def make_runner(checkpoint: Path, path: str) -> Runner:
    model: Any = load_whole_model(checkpoint, torch.float32)
    size = model.get_output_embeddings().weight.shape[0]
    board = SharedBoard.alone(64, size)
    if path == "stock":
        return ModelRunner(model, KvCache(64), torch.device("cpu"), board)
    try:
        kernels = Kernels(build(CACHE_DIR), threads=1)
    except NoKernels as reason:
        missing(f"kernels: {reason}")
    lean = adopt(model, kernels, lambda part: None, position_count=CONTEXT_TOKENS)
    assert verify.difference(lean, model, size) < verify.MOST_DIFFERENCE
    return LeanRunner(lean, 64, board)


@pytest.fixture(scope="module")
def fifty_drawn(checkpoint: Path) -> dict[int, list[int]]:
    reference = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation="eager")
    return arrivals.plain_greedy(reference, arrivals.fifty_requests())


def test_fifty_prompts_arriving_at_random_equal_plain_generate_token_for_token(
    checkpoint: Path, path: str, fifty_drawn: dict[int, list[int]]
) -> None:
    """Batched, in chunks, with prefixes found again and sequences pushed out."""
    scheduler = make_scheduler(blocks=24)
    transcript = arrivals.run_arrivals(make_runner(checkpoint, path), arrivals.fifty_requests(), scheduler)
    load = scheduler.load()
    assert load.preemption_count >= 3 and load.cached_prompt_token_count >= 300
    assert {i: transcript.ids(i) for i in fifty_drawn} == fifty_drawn


def prompts_with_shared_beginnings() -> list[list[int]]:
    shared = prompts()[4]
    return [shared, shared[:50], [*shared, 11, 12], *prompts()[1:4], [*shared[:64], *prompts()[1]], shared]


@pytest.fixture(scope="module")
def shared_drawn(checkpoint: Path) -> list[list[int]]:
    reference = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation="eager")
    return [plain_greedy(reference, prompt) for prompt in prompts_with_shared_beginnings()]


@pytest.mark.parametrize("reserve", [None, 2], ids=["whole-reservation", "part-reservation"])
def test_prefix_reuse_chunks_and_preemption_change_no_token(
    checkpoint: Path, path: str, shared_drawn: list[list[int]], reserve: int | None
) -> None:
    """Prompts that share beginnings come step by step, the later the more urgent, into a pool that holds three."""
    scheduler = make_scheduler(blocks=9, step_tokens=24, output_reserve_tokens=reserve)
    runner, transcript = make_runner(checkpoint, path), Transcript()
    for i, prompt in enumerate(prompts_with_shared_beginnings()):
        scheduler.add(request(i, prompt, max_tokens=DRAWN, priority=min(3 * i - 10, 10)), seed=0, now=float(i))
        for _ in range(4):
            run_step(runner, scheduler, transcript)
    while run_step(runner, scheduler, transcript):
        pass

    load = scheduler.load()
    assert load.preemption_count >= 2 and load.cached_prompt_token_count >= 100
    assert [transcript.ids(i) for i in range(len(shared_drawn))] == shared_drawn


def test_prompt_scores_equal_those_of_one_plain_forward_pass(checkpoint: Path, path: str) -> None:
    prompt = prompts()[4]
    reference = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation="eager")
    logprobs = torch.log_softmax(reference(torch.tensor([prompt])).logits[0].detach(), dim=-1)

    transcript = run_to_end(
        make_runner(checkpoint, path), [request(0, prompt, prompt_logprobs=2, logprobs=0)], make_scheduler()
    )

    scored = transcript.scored[0]
    assert [drawn.token_id for drawn in scored.drawn] == prompt[1:]
    expected = [float(logprobs[i, token]) for i, token in enumerate(prompt[1:])]
    # float32 sums in another order: 1e-4 is ten times what is seen
    assert [drawn.logprob for drawn in scored.drawn] == pytest.approx(expected, abs=1e-4)
    assert all(len(top) == 2 for top in scored.top)
    assert transcript.tokens[0][0].logprob == pytest.approx(float(logprobs[-1].max()), abs=1e-4)
