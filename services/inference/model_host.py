"""What one instance serves: a model's text side, its engine, and the requests that run on them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Sequence

from meshkit.clock import Clock
from meshkit.coalescing import Coalescer, Piece
from meshkit.errors import InvalidRequest, NotReady
from meshkit.incoming import DEFAULT_TENANT
from meshkit.limits import check_token_ids
from services.inference.engine_port import Engine
from services.inference.flushes import FlushesByKey
from services.inference.generation import Ended, Generation, Started
from services.inference.pinned_prefixes import Prefix
from services.inference.prompt_check import check_prompt, check_prompt_tokens
from services.inference.requests import GenerationRequest, Prompt
from services.inference.running import RunningRequests
from services.inference.settings import StreamSettings
from services.inference.text import TextModel
from services.inference.validation import ModelLimits, check_request, encode_prompt

IDS_DECODED_AT_ONCE = 256
"""More are decoded off the event loop."""


class ModelHost:
    """Everything that an RPC does, on the domain's own values."""

    def __init__(self, *, name: str, clock: Clock, stream: StreamSettings, context_tokens: int = 0) -> None:
        self.name = name
        self.running = RunningRequests()
        self.revision = ""
        self._text: TextModel | None = None
        self._engine: Engine | None = None
        self._clock = clock
        self._stream = stream
        self._context_tokens = context_tokens
        self._flushes = FlushesByKey()

    def run_on(self, engine: Engine, revision: str) -> None:
        """Answers come from this engine, as soon as it is ready."""
        self._engine, self.revision = engine, revision

    def read_with(self, text: TextModel) -> None:
        """From now on prompts can be read."""
        self._text = text

    async def close(self) -> None:
        """End the engine, if there is one."""
        if self._engine is not None:
            await self._engine.close()

    @property
    def engine(self) -> Engine:
        """Raises NotReady while the model is being fetched."""
        if self._engine is None:
            raise NotReady("the model is being loaded")
        return self._engine

    @property
    def text(self) -> TextModel:
        """Raises NotReady while the model is being fetched."""
        if self._text is None:
            raise NotReady("the model is being loaded")
        return self._text

    @property
    def can_serve(self) -> bool:
        """Whether the engine draws tokens and no drain began."""
        is_loaded = self._text is not None and self._engine is not None and self._engine.is_ready
        return is_loaded and not self.running.is_draining

    @property
    def limits(self) -> ModelLimits:
        """Raises NotReady before the engine was ready for the first time."""
        facts = self.engine.facts
        if facts is None:
            raise NotReady("the engine is starting")
        bounds = (facts.context_tokens, facts.kv_total_tokens, self._context_tokens or facts.context_tokens)
        return ModelLimits(
            name=self.name,
            context_tokens=min(bounds),
            vocabulary_size=facts.vocabulary_size,
            default_max_tokens=self._stream.default_max_tokens,
        )

    async def generate(
        self,
        request: GenerationRequest,
        arrived_at: float,
        *,
        tenant: str = DEFAULT_TENANT,
        deadline_at: float | None = None,
    ) -> AsyncGenerator[Started | Piece | Ended, None]:
        """Check and run a request; see `generation.py` for the order of events.

        Prefixes are shared within the tenant alone.
        """
        self.running.require_open()
        checked = await check_request(request, self.text, self.limits)
        left_s = None if deadline_at is None else deadline_at - self._clock.now()
        wish_s = checked.spec.ttft_slo_s
        slo_s = None if wish_s is None else wish_s - (self._clock.now() - arrived_at)
        spec = dataclasses.replace(checked.spec, cache_salt=tenant, deadline_s=left_s, ttft_slo_s=slo_s)
        generation = Generation(
            dataclasses.replace(checked, spec=spec),
            engine=self.engine,
            text=self.text,
            clock=self._clock,
            coalescer=Coalescer(interval_s=self._stream.flush_interval_s, max_tokens=self._stream.flush_tokens),
            arrived_at=arrived_at,
        )
        with self.running.entered(generation):
            events = generation.events()
            try:
                async for event in events:
                    yield event
            finally:
                await events.aclose()

    async def flush_cache(self, key: str) -> int:
        """Forget the prefix cache, once for each key; gives how many blocks came free."""
        return await self._flushes.once(key, self.engine.flush_cache)

    async def pin_prefix(self, prompt: Prompt, *, tenant: str, is_pinned: bool) -> int:
        """Keep a tenant's prefix in the cache, or let it go; gives how many tokens that are, in whole blocks."""
        self.running.require_open()
        limits, facts = self.limits, self.engine.facts
        check_prompt(prompt, context_tokens=limits.context_tokens, vocabulary_size=limits.vocabulary_size)
        token_ids = await encode_prompt(prompt, self.text)
        check_prompt_tokens(len(token_ids), limits.context_tokens)
        check_token_ids(tuple(token_ids), limits.vocabulary_size, "prompt")
        block_tokens = facts.block_tokens if facts is not None else 1
        kept_count = len(token_ids) // block_tokens * block_tokens
        if not kept_count:
            limit = f"at least {block_tokens} tokens, a block of the cache"
            raise InvalidRequest(f"has {len(token_ids)} tokens", field="prompt", limit=limit)
        prefix = Prefix(cache_salt=tenant, token_ids=tuple(token_ids[:kept_count]))
        await self.engine.pin_prefix(prefix, is_pinned=is_pinned)
        return kept_count

    async def tokenize(self, prompt: Prompt) -> list[int]:
        """Ids that the model would read; a prompt over the context is counted, within reason."""
        limits = self.limits
        if prompt.token_ids is None:
            check_prompt(prompt, context_tokens=limits.context_tokens, vocabulary_size=limits.vocabulary_size)
        elif not prompt.token_ids:
            raise InvalidRequest("is empty", field="prompt.token_ids.ids", limit="at least 1 token")
        return await encode_prompt(prompt, self.text)

    async def detokenize(self, ids: Sequence[int], *, skips_special_tokens: bool) -> str:
        """Text of these ids, no more than fit in the context."""
        if len(ids) > self.limits.context_tokens:
            limit = f"at most {self.limits.context_tokens}"
            raise InvalidRequest(f"{len(ids)} ids are more than the context", field="ids", limit=limit)
        check_token_ids(tuple(ids), self.limits.vocabulary_size, "ids")
        decode = self.text.decode if skips_special_tokens else self.text.decode_all
        if len(ids) <= IDS_DECODED_AT_ONCE:
            return decode(ids)
        return await asyncio.to_thread(decode, ids)
