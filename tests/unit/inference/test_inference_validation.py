"""Rules of validation: every bad value is refused with its field and limit, quickly; every default is filled in."""

import math
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.errors import InvalidRequest, MeshError, NotBuilt, NotFound
from services.inference.byte_tokenizer import END_TOKEN_ID
from services.inference.requests import (
    GenerationRequest,
    OutputWish,
    Prompt,
    SamplingWish,
    StoppingWish,
    Turn,
)
from services.inference.text import byte_text_model
from services.inference.validation import CheckedRequest, ModelLimits, check_request

CONTEXT_TOKENS = 64
MODEL = ModelLimits(name="m", context_tokens=CONTEXT_TOKENS, vocabulary_size=257, default_max_tokens=32)
TEXT = byte_text_model()
HELLO = GenerationRequest(prompt=Prompt(text="hello"))


async def check(request: GenerationRequest) -> CheckedRequest:
    return await check_request(request, TEXT, MODEL)


def turns(*turns: Turn) -> Prompt:
    return Prompt(turns=turns)


BAD_VALUES: list[tuple[dict[str, Any], str, str]] = [
    ({"sampling": SamplingWish(temperature=math.nan)}, "sampling.temperature", "[0, 2]"),
    ({"sampling": SamplingWish(temperature=math.inf)}, "sampling.temperature", "[0, 2]"),
    ({"sampling": SamplingWish(temperature=-0.1)}, "sampling.temperature", "[0, 2]"),
    ({"sampling": SamplingWish(temperature=2.1)}, "sampling.temperature", "[0, 2]"),
    ({"sampling": SamplingWish(top_p=0.0)}, "sampling.top_p", "(0, 1]"),
    ({"sampling": SamplingWish(top_p=math.nan)}, "sampling.top_p", "(0, 1]"),
    ({"sampling": SamplingWish(top_p=1.5)}, "sampling.top_p", "(0, 1]"),
    ({"sampling": SamplingWish(top_k=-2)}, "sampling.top_k", "[-1, "),
    ({"sampling": SamplingWish(min_p=-1.0)}, "sampling.min_p", "[0, 1]"),
    ({"sampling": SamplingWish(repetition_penalty=0.0)}, "sampling.repetition_penalty", "(0, 2]"),
    ({"sampling": SamplingWish(presence_penalty=-3.0)}, "sampling.presence_penalty", "[-2, 2]"),
    ({"sampling": SamplingWish(frequency_penalty=math.nan)}, "sampling.frequency_penalty", "[-2, 2]"),
    ({"sampling": SamplingWish(logit_bias={5: 101.0})}, "sampling.logit_bias", "[-100, 100]"),
    ({"sampling": SamplingWish(logit_bias={257: 1.0})}, "sampling.logit_bias[0]", "0..256"),
    ({"sampling": SamplingWish(logit_bias=dict.fromkeys(range(513), 1.0))}, "sampling.logit_bias", "at most 512"),
    ({"sampling": SamplingWish(n=0)}, "sampling.n", "[1, 8]"),
    ({"sampling": SamplingWish(n=9)}, "sampling.n", "[1, 8]"),
    ({"stopping": StoppingWish(max_tokens=0)}, "stopping.max_tokens", "[1, 64]"),
    ({"stopping": StoppingWish(max_tokens=-1)}, "stopping.max_tokens", "[1, 64]"),
    ({"stopping": StoppingWish(max_tokens=2**31 - 1)}, "stopping.max_tokens", "[1, 64]"),
    ({"stopping": StoppingWish(min_tokens=-1)}, "stopping.min_tokens", "[0, 64]"),
    ({"stopping": StoppingWish(max_tokens=4, min_tokens=5)}, "stopping.min_tokens", "[0, 4]"),
    ({"stopping": StoppingWish(stop=("",))}, "stopping.stop[0]", "1..256 characters"),
    ({"stopping": StoppingWish(stop=("a", "x" * 257))}, "stopping.stop[1]", "1..256 characters"),
    ({"stopping": StoppingWish(stop=("a",) * 17)}, "stopping.stop", "at most 16"),
    ({"stopping": StoppingWish(stop_token_ids=(3, 257))}, "stopping.stop_token_ids[1]", "0..256"),
    ({"stopping": StoppingWish(stop_token_ids=(3,) * 65)}, "stopping.stop_token_ids", "at most 64"),
    ({"output": OutputWish(logprobs=-1)}, "output.logprobs", "[0, 20]"),
    ({"output": OutputWish(prompt_logprobs=21)}, "output.prompt_logprobs", "[0, 20]"),
    ({"priority": 11}, "priority", "[-10, 10]"),
    ({"request_id": "x" * 129}, "request_id", "128 characters"),
    ({"prompt": Prompt()}, "prompt", "one of messages, text, token_ids"),
    ({"prompt": Prompt(text="")}, "prompt.text", "at least 1 character"),
    ({"prompt": Prompt(token_ids=())}, "prompt.token_ids.ids", "at least 1 token"),
    ({"prompt": Prompt(token_ids=(1, -1))}, "prompt.token_ids.ids[1]", "0..256"),
    ({"prompt": Prompt(token_ids=(1, 2, 257))}, "prompt.token_ids.ids[2]", "0..256"),
    ({"prompt": Prompt(token_ids=(1,) * 64)}, "prompt", "context of 64 tokens"),
    ({"prompt": Prompt(text="x" * 64)}, "prompt", "context of 64 tokens"),
    ({"prompt": Prompt(text="x" * 300)}, "prompt", "context of 64 tokens"),
    ({"prompt": turns(*[Turn(role="user", content="x" * 100)] * 3)}, "prompt", "context of 64 tokens"),
    ({"prompt": Prompt(text="x" * 5_000_000)}, "prompt", "1024 characters for a context of 64 tokens"),
    ({"prompt": turns()}, "prompt.messages.messages", "at least 1 message"),
    ({"prompt": turns(Turn(role="user", content=""))}, "prompt.messages.messages", "at least 1 message"),
    ({"prompt": turns(Turn(role="oracle", content="x"))}, "prompt.messages.messages[0].role", "one of system"),
    ({"prompt": turns(*[Turn(role="user", content="x")] * 2049)}, "prompt.messages.messages", "at most 2048"),
]


@pytest.mark.parametrize(
    ("fields", "field", "limit"), BAD_VALUES, ids=[f"{row[1]}-{n}" for n, row in enumerate(BAD_VALUES)]
)
async def test_bad_value_is_refused_with_field_and_limit_within_50_ms(
    fields: dict[str, Any], field: str, limit: str
) -> None:
    began = time.perf_counter()
    with pytest.raises(InvalidRequest) as refusal:
        await check(replace(HELLO, **fields))
    assert time.perf_counter() - began < 0.05
    assert refusal.value.field == field
    assert limit in refusal.value.limit
    assert field in refusal.value.message and len(refusal.value.message) < 300


@pytest.mark.parametrize(
    ("fields", "error", "word"),
    [
        ({"constraint_kind": "json_schema"}, NotBuilt, "constraint.json_schema"),
        ({"adapter": "a"}, NotBuilt, "adapter"),
        ({"prompt": Prompt(text="x", tool_count=1)}, NotBuilt, "prompt.tools"),
        ({"model": "other"}, NotFound, "'m'"),
    ],
)
async def test_what_is_not_here_is_refused_with_the_reason(
    fields: dict[str, Any], error: type[MeshError], word: str
) -> None:
    with pytest.raises(error, match=word):
        await check(replace(HELLO, **fields))


async def test_far_too_long_prompt_is_counted_no_further_than_needed() -> None:
    with pytest.raises(InvalidRequest, match="the prompt has over 284 tokens"):
        await check(replace(HELLO, prompt=Prompt(text="x" * 300)))


@given(text=st.text(alphabet="ab \n", max_size=300), enough=st.integers(1, 400))
def test_token_floor_is_never_above_the_count(text: str, enough: int) -> None:
    assert TEXT.token_floor([text], enough) <= len(TEXT.encode(Prompt(text=text)))


async def test_prompt_alone_gets_sensible_values() -> None:
    checked = await check(HELLO)
    assert bytes(checked.spec.prompt_ids) != b"" and len(checked.spec.prompt_ids) == 5
    assert checked.spec.sampling.temperature == 1.0
    assert checked.spec.sampling.top_k == 0
    assert checked.spec.stopping.max_tokens == 32
    assert checked.spec.stopping.stop_token_ids == (END_TOKEN_ID,)
    assert checked.answer_count == 1
    assert checked.request_id


async def test_model_defaults_stand_between_the_request_and_the_contract() -> None:
    text = byte_text_model()
    text.sampling_defaults = SamplingWish(temperature=0.6, top_k=64)
    wish = SamplingWish(top_k=-1)
    sampling = (await check_request(replace(HELLO, sampling=wish), text, MODEL)).spec.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.6, 0, 1.0)


async def test_zero_is_a_value_and_not_an_absence() -> None:
    checked = await check(replace(HELLO, sampling=SamplingWish(temperature=0.0, seed=0), output=OutputWish(logprobs=0)))
    assert checked.spec.sampling.temperature == 0.0
    assert checked.spec.sampling.seed == 0
    assert checked.spec.logprobs == 0


async def test_a_temperature_is_never_too_cold_for_the_engines_numbers() -> None:
    checked = await check(replace(HELLO, sampling=SamplingWish(temperature=1e-300)))
    assert checked.spec.sampling.temperature == 1e-6


async def test_answer_is_cut_to_what_the_context_leaves() -> None:
    checked = await check(replace(HELLO, prompt=Prompt(text="x" * 60), stopping=StoppingWish(max_tokens=50)))
    assert checked.spec.stopping.max_tokens == 4


async def test_ignoring_the_end_keeps_the_callers_own_stop_tokens() -> None:
    checked = await check(replace(HELLO, stopping=StoppingWish(ignore_eos=True, stop_token_ids=(7,))))
    assert checked.spec.stopping.stop_token_ids == (7,)


async def test_each_of_several_answers_has_a_seed_of_its_own() -> None:
    checked = await check(replace(HELLO, sampling=SamplingWish(n=3, seed=-1)))
    seeds = [checked.sequence(index).sampling.seed for index in range(3)]
    assert len(set(seeds)) == 3 and all(seed is not None and 0 <= seed < 2**63 for seed in seeds)
