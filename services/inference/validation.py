"""From what was asked to what the engine does: every value checked, every default filled in.

Defaults come from the request, else from the model's own `generation_config.json`, else from the contract. A bad value
is an InvalidRequest that names field and limit; what is promised and not written yet is a NotBuilt with the reason.
"""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from dataclasses import dataclass

import msgspec

from meshkit import limits
from meshkit.errors import InvalidRequest, NotBuilt, NotFound
from services.inference.engine.messages import Sampling, Stopping
from services.inference.engine_port import SequenceSpec
from services.inference.prompt_check import check_prompt, check_prompt_tokens
from services.inference.requests import GenerationRequest, OutputWish, Prompt, SamplingWish, StoppingWish
from services.inference.text import TextModel

SHORT_PROMPT_CHARACTERS = 1000
"""Tokenising this much takes under a millisecond; longer text is tokenised on a thread."""
SUSPICIOUS_CHARACTERS_PER_TOKEN = 3
"""Fewer characters a token than most texts have: a prompt with more than this times the context is looked at twice."""
_SEED_MASK = 2**63 - 1
_COLDEST = 1e-6  # of the temperatures over 0: float32 has no room for colder ones, and they draw the same


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """What the running engine allows."""

    name: str
    context_tokens: int
    vocabulary_size: int
    default_max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRequest:
    """A request that can be run as it is."""

    request_id: str
    spec: SequenceSpec
    answer_count: int
    stop_strings: tuple[str, ...]
    output: OutputWish

    def sequence(self, index: int) -> SequenceSpec:
        """The spec of one of the `n` answers: the same, with a seed of its own."""
        seed = self.spec.sampling.seed
        if index == 0 or seed is None:
            return self.spec
        sampling = msgspec.structs.replace(self.spec.sampling, seed=(seed + index) & _SEED_MASK)
        return dataclasses.replace(self.spec, sampling=sampling)


async def check_request(request: GenerationRequest, text: TextModel, model: ModelLimits) -> CheckedRequest:
    """Raises InvalidRequest, NotFound or NotBuilt."""
    _check_what_is_built(request)
    _check_names(request, model)
    _check_sampling(request.sampling, model)
    limits.check_output(request.output)
    check_prompt(request.prompt, context_tokens=model.context_tokens, vocabulary_size=model.vocabulary_size)
    _check_stopping(request.stopping, model)
    await _check_rough_length(request.prompt, text, model.context_tokens)
    prompt_ids = await encode_prompt(request.prompt, text)
    check_prompt_tokens(len(prompt_ids), model.context_tokens)
    limits.check_token_ids(tuple(prompt_ids), model.vocabulary_size, "prompt")
    return CheckedRequest(
        request_id=request.request_id or uuid.uuid4().hex,
        spec=SequenceSpec(
            prompt_ids=prompt_ids,
            sampling=_fill_sampling(request.sampling, text.sampling_defaults),
            stopping=_fill_stopping(request.stopping, text, model, len(prompt_ids)),
            priority=request.priority,
            ttft_slo_s=request.ttft_slo_s,
            logprobs=request.output.logprobs,
            prompt_logprobs=request.output.prompt_logprobs,
        ),
        answer_count=request.sampling.n or 1,
        stop_strings=request.stopping.stop,
        output=request.output,
    )


async def encode_prompt(prompt: Prompt, text: TextModel) -> list[int]:
    """Ids of a prompt; long text doesn't hold up the event loop."""
    size = len(prompt.text or "") + sum(len(turn.content) for turn in prompt.turns or ())
    if size <= SHORT_PROMPT_CHARACTERS:
        return text.encode(prompt)
    return await asyncio.to_thread(text.encode, prompt)


async def _check_rough_length(prompt: Prompt, text: TextModel, context_tokens: int) -> None:
    """Refuse a prompt that is far too long without tokenising all of it, which may take a quarter of a second."""
    texts = [prompt.text or "", *(turn.content for turn in prompt.turns or ())]
    if sum(len(part) for part in texts) > SUSPICIOUS_CHARACTERS_PER_TOKEN * context_tokens:
        limits.check_fits_context(
            await asyncio.to_thread(text.token_floor, texts, context_tokens), context_tokens, "over "
        )


def _check_what_is_built(request: GenerationRequest) -> None:
    if request.constraint_kind:
        raise NotBuilt(f"constraint.{request.constraint_kind}: this version has no constrained decoding")
    if request.adapter:
        raise NotBuilt("adapter: this version has no LoRA adapters")


def _check_names(request: GenerationRequest, model: ModelLimits) -> None:
    if request.model and request.model != model.name:
        raise NotFound(f"model {request.model[:128]!r} is not served here; {model.name!r} is")
    if len(request.request_id) > limits.MAX_REQUEST_ID_CHARACTERS:
        limit = f"{limits.MAX_REQUEST_ID_CHARACTERS} characters"
        raise InvalidRequest("is too long", field="request_id", limit=limit)
    limits.PRIORITY.check(request.priority)
    limits.TTFT_SLO.check(request.ttft_slo_s)


def _check_sampling(wish: SamplingWish, model: ModelLimits) -> None:
    limits.check_sampling(wish)
    limits.check_token_ids(tuple(wish.logit_bias), model.vocabulary_size, limits.LOGIT_BIAS.field)


def _check_stopping(wish: StoppingWish, model: ModelLimits) -> None:
    limits.check_stopping(wish, most_tokens=model.context_tokens)
    limits.check_token_ids(wish.stop_token_ids, model.vocabulary_size, "stopping.stop_token_ids")


def _fill_sampling(wish: SamplingWish, model: SamplingWish) -> Sampling:
    top_k = _first(wish.top_k, model.top_k, 0)
    temperature = _first(wish.temperature, model.temperature, 1.0)
    return Sampling(
        temperature=max(temperature, _COLDEST) if temperature else 0.0,
        top_p=_first(wish.top_p, model.top_p, 1.0),
        top_k=int(max(top_k, 0)),
        min_p=_first(wish.min_p, model.min_p, 0.0),
        repetition_penalty=_first(wish.repetition_penalty, model.repetition_penalty, 1.0),
        presence_penalty=wish.presence_penalty or 0.0,
        frequency_penalty=wish.frequency_penalty or 0.0,
        seed=None if wish.seed is None else wish.seed & _SEED_MASK,
        logit_bias=dict(wish.logit_bias),
    )


def _fill_stopping(wish: StoppingWish, text: TextModel, model: ModelLimits, prompt_token_count: int) -> Stopping:
    room = model.context_tokens - prompt_token_count
    ends = () if wish.ignore_eos else text.eos_token_ids
    max_tokens = min(wish.max_tokens or model.default_max_tokens, room)
    return Stopping(
        max_tokens=max_tokens,
        min_tokens=min(wish.min_tokens or 0, max_tokens),
        stop_token_ids=tuple(sorted({*ends, *wish.stop_token_ids})),
    )


def _first(wished: float | None, of_the_model: float | None, otherwise: float) -> float:
    return wished if wished is not None else of_the_model if of_the_model is not None else otherwise
