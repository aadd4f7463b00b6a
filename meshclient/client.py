"""A router for callers: found by address or through Consul, asked with a deadline, retried before the first event."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2
from meshclient.events import Accepted, Event, event_of
from meshclient.generation import Generation, OpenCall
from meshclient.routers import Routers
from meshkit.calls import Calls
from meshkit.chassis import build_registry
from meshkit.clock import SystemClock
from meshkit.errors import BackendDown, NotReady
from meshkit.registry.base import Instance, InstanceSet, Registry
from meshkit.retry import RetryBudget, backoff_s
from meshkit.settings import RegistrySettings

_SERVICE = "mesh-router"
_MAX_ATTEMPTS = 3


class MeshClient:
    """Asks the mesh. A context manager, one for the life of the program; safe for many tasks at once."""

    def __init__(
        self,
        router: str = "127.0.0.1:50051",
        *,
        timeout_s: float = 120.0,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """A client of one router at `host:port`.

        `timeout_s`: deadline of calls that name none. `credentials`: for TLS, as `grpc.ssl_channel_credentials` makes
        them; None: plain text.
        """
        known = InstanceSet(_SERVICE)
        known.replace((Instance(id=router, service=_SERVICE, address=router),))
        self._registry: Registry | None = None
        self._start(known, timeout_s, credentials)

    @classmethod
    def discover(
        cls,
        consul_url: str = "http://127.0.0.1:8500",
        *,
        timeout_s: float = 120.0,
        snapshot_dir: Path | None = None,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> MeshClient:
        """A client of all routers that this Consul knows. Call it inside the event loop.

        `snapshot_dir` keeps the last-known routers of each Consul for a start while it is away; None: `~/.cache/mesh`.
        """
        kept = (snapshot_dir or Path("~/.cache/mesh").expanduser()) / _folder_of(consul_url)
        client = cls.__new__(cls)
        client._registry = build_registry(RegistrySettings(consul_url=consul_url, snapshot_dir=kept), SystemClock())
        client._start(client._registry.watch(_SERVICE), timeout_s, credentials)
        return client

    def _start(self, known: InstanceSet, timeout_s: float, credentials: grpc.ChannelCredentials | None) -> None:
        self._timeout_s = timeout_s
        self._clock = SystemClock()
        self._routers = Routers(known, self._clock, credentials)
        self._calls = Calls()
        self._budget = RetryBudget()

    async def __aenter__(self) -> MeshClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the watch and the channels; running generations end with BackendDown."""
        if self._registry is not None:
            await self._registry.close()
        await self._routers.close()

    def generate(
        self,
        prompt: str | Sequence[tuple[str, str]],
        *,
        model: str = "",
        tier: str = "",
        temperature: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        paced_replay: bool = False,
        timeout_s: float | None = None,
        request: router_service_pb2.GenerateRequest | None = None,
    ) -> Generation:
        """Ask. `prompt` is text or (role, content) turns; `request` sets everything else that the contract has.

        `paced_replay`: an answer that the cache has comes as slowly as it was generated, instead of at once.
        Iterate over the result for events, or await its `text()`.
        """
        message = router_service_pb2.GenerateRequest()
        if request is not None:
            message.CopyFrom(request)
        message.prompt.MergeFrom(_prompt(prompt))
        if model:
            message.model = model
        elif tier:
            message.tier = tier
        if temperature is not None:
            message.sampling.temperature = temperature
        if seed is not None:
            message.sampling.seed = seed
        if max_tokens is not None:
            message.stopping.max_tokens = max_tokens
        message.stopping.stop.extend(stop)
        if paced_replay:
            message.cache.replay = router_service_pb2.REPLAY_PACED
        call = OpenCall()
        return Generation(self._events(message, self._timeout_s if timeout_s is None else timeout_s, call), call)

    async def models(self) -> list[router_service_pb2.Model]:
        """The models that can be asked for."""
        reply = await self._unary("ListModels", router_service_pb2.ListModelsRequest())
        return list(reply.models)

    async def count_tokens(self, prompt: str | Sequence[tuple[str, str]], *, model: str = "") -> int:
        """Tokens of a prompt as the model would read it."""
        request = router_service_pb2.CountTokensRequest(prompt=_prompt(prompt), model=model)
        return int((await self._unary("CountTokens", request)).prompt_tokens)

    async def cancel(self, decision_id: str) -> bool:
        """Cancel a request by the id in its Accepted event; False where it had ended."""
        request = router_service_pb2.CancelRequest(decision_id=decision_id)
        problem: BackendDown | None = None
        for instance in await self._routers.who_may_know(decision_id, self._timeout_s):
            try:
                if (await self._ask(instance, "Cancel", request)).cancelled:
                    return True
            except BackendDown as unreachable:
                problem = unreachable
        if problem is not None:
            raise problem
        return False

    async def _unary(self, method: str, request: Any) -> Any:
        return await self._ask(await self._routers.pick(set(), self._timeout_s), method, request)

    async def _ask(self, instance: Instance, method: str, request: Any) -> Any:
        call = getattr(self._routers.stub(instance), method)
        return await self._calls.unary(call, request, timeout_s=self._timeout_s, peer=instance.id)

    async def _events(
        self, request: router_service_pb2.GenerateRequest, timeout_s: float, call: OpenCall
    ) -> AsyncGenerator[Event, None]:
        """One stream; tried on another router as long as no event has come."""
        self._budget.earn()
        ends_at = self._clock.now() + timeout_s
        tried: set[str] = set()
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            instance = await self._routers.pick(tried, timeout_s)
            has_begun = False
            try:
                async for message in self._messages(instance, request, ends_at - self._clock.now(), call):
                    has_begun = True
                    event = event_of(message)
                    if isinstance(event, Accepted):
                        self._routers.remember(event.decision_id, instance)
                    if event is not None:
                        yield event
                self._routers.succeeded(instance)
                return
            except (BackendDown, NotReady):
                self._routers.failed(instance)
                tried.add(instance.id)
                if has_begun or attempt == _MAX_ATTEMPTS or not self._budget.spend():
                    raise
            await self._clock.sleep(backoff_s(attempt))

    async def _messages(
        self, instance: Instance, request: router_service_pb2.GenerateRequest, timeout_s: float, call: OpenCall
    ) -> AsyncIterator[router_service_pb2.GenerateEvent]:
        generate = self._routers.stub(instance).Generate
        async with self._calls.stream(generate, request, timeout_s=timeout_s, peer=instance.id) as stream:
            call.begin(stream)
            async for message in stream:
                yield message


def _folder_of(consul_url: str) -> str:
    """One Consul's routers are not another's. A digest, because a URL may hold a password."""
    return hashlib.sha256(consul_url.rstrip("/").encode()).hexdigest()[:16]


def _prompt(prompt: str | Sequence[tuple[str, str]]) -> common_pb2.Prompt:
    if isinstance(prompt, str):
        return common_pb2.Prompt(text=prompt)
    turns = [common_pb2.Message(role=role, content=content) for role, content in prompt]
    return common_pb2.Prompt(messages=common_pb2.ChatMessages(messages=turns))
