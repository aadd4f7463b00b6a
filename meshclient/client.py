"""A router for callers: found by address or through Consul, asked with a deadline, retried before the first event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2, router_service_pb2_grpc
from meshclient.events import Delta, Event, Finished, event_of
from meshkit.calls import Calls
from meshkit.channels import ChannelPool
from meshkit.chassis import build_registry
from meshkit.clock import SystemClock
from meshkit.errors import BackendDown, NotReady
from meshkit.picker import Picker
from meshkit.registry.base import Instance, InstanceSet, Registry
from meshkit.retry import RetryBudget, backoff_s
from meshkit.settings import RegistrySettings

_SERVICE = "mesh-router"
_MAX_ATTEMPTS = 3
_DISCOVERY_TIMEOUT_S = 10.0


class MeshClient:
    """Asks the mesh. A context manager, one for the life of the program; safe for many tasks at once."""

    def __init__(self, router: str = "127.0.0.1:50051", *, timeout_s: float = 120.0) -> None:
        """A client of one router at `host:port`. `timeout_s`: deadline of calls that name none."""
        known = InstanceSet(_SERVICE)
        known.replace((Instance(id=router, service=_SERVICE, address=router),))
        self._registry: Registry | None = None
        self._timeout_s = timeout_s
        self._start(known)

    @classmethod
    def discover(
        cls, consul_url: str = "http://127.0.0.1:8500", *, timeout_s: float = 120.0, snapshot_dir: Path | None = None
    ) -> MeshClient:
        """A client of all routers that Consul knows. Call it inside the event loop. `snapshot_dir` keeps the last-known
        routers for a start while Consul is away."""
        settings = RegistrySettings(
            consul_url=consul_url, snapshot_dir=snapshot_dir or Path("~/.cache/mesh").expanduser()
        )
        client = cls.__new__(cls)
        client._registry = build_registry(settings, SystemClock())
        client._timeout_s = timeout_s
        client._start(client._registry.watch(_SERVICE))
        return client

    def _start(self, known: InstanceSet) -> None:
        self._clock = SystemClock()
        self._picker = Picker(known, self._clock)
        self._channels = ChannelPool()
        self._calls = Calls()
        self._budget = RetryBudget()

    async def __aenter__(self) -> MeshClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the watch and the channels; running generations end with Cancelled."""
        if self._registry is not None:
            await self._registry.close()
        await self._channels.close()

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
        timeout_s: float | None = None,
        request: router_service_pb2.GenerateRequest | None = None,
    ) -> Generation:
        """Ask. `prompt` is text or (role, content) turns; `request` sets everything else that the contract has.

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
        return Generation(self._events(message, self._timeout_s if timeout_s is None else timeout_s))

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
        return bool((await self._unary("Cancel", router_service_pb2.CancelRequest(decision_id=decision_id))).cancelled)

    async def _unary(self, method: str, request: Any) -> Any:
        instance = await self._pick(set(), self._timeout_s)
        stub = router_service_pb2_grpc.RouterServiceStub(self._channels.get(instance.address))
        return await self._calls.unary(getattr(stub, method), request, timeout_s=self._timeout_s, peer=instance.id)

    async def _events(
        self, request: router_service_pb2.GenerateRequest, timeout_s: float
    ) -> AsyncGenerator[Event, None]:
        """One stream; tried on another router as long as no event has come."""
        self._budget.earn()
        ends_at = self._clock.now() + timeout_s
        tried: set[str] = set()
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            instance = await self._pick(tried, timeout_s)
            has_begun = False
            try:
                async for message in self._messages(instance, request, ends_at - self._clock.now()):
                    has_begun = True
                    if (event := event_of(message)) is not None:
                        yield event
                self._picker.succeeded(instance)
                return
            except (BackendDown, NotReady):
                self._picker.failed(instance)
                tried.add(instance.id)
                if has_begun or attempt == _MAX_ATTEMPTS or not self._budget.spend():
                    raise
            await self._clock.sleep(backoff_s(attempt))

    async def _messages(
        self, instance: Instance, request: router_service_pb2.GenerateRequest, timeout_s: float
    ) -> AsyncIterator[router_service_pb2.GenerateEvent]:
        stub = router_service_pb2_grpc.RouterServiceStub(self._channels.get(instance.address))
        async with self._calls.stream(stub.Generate, request, timeout_s=timeout_s, peer=instance.id) as messages:
            async for message in messages:
                yield message

    async def _pick(self, tried: set[str], timeout_s: float) -> Instance:
        """The next router in turn; waits for the first one to be discovered."""
        instances = self._picker.instances
        if not instances.current:
            try:
                async with asyncio.timeout(min(timeout_s, _DISCOVERY_TIMEOUT_S)):
                    await instances.non_empty()
            except TimeoutError:
                raise BackendDown("no router is known to Consul; is the mesh up (make status)?") from None
        untried = {instance.id for instance in instances.current} - tried
        return self._picker.pick(exclude=tried if untried else ())


class Generation:
    """One answer on its way. Iterating it yields events; leaving the loop, or `close`, cancels the work."""

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._events = events
        self.finished: Finished | None = None
        """The bill, once it has come."""

    async def __aiter__(self) -> AsyncGenerator[Event, None]:
        try:
            async for event in self._events:
                if isinstance(event, Finished):
                    self.finished = event
                yield event
        finally:
            await self._events.aclose()

    async def text(self) -> str:
        """The whole text of the first answer."""
        return "".join([event.text async for event in self if isinstance(event, Delta) and event.index == 0])

    async def close(self) -> None:
        """Cancel what still runs."""
        await self._events.aclose()


def _prompt(prompt: str | Sequence[tuple[str, str]]) -> common_pb2.Prompt:
    if isinstance(prompt, str):
        return common_pb2.Prompt(text=prompt)
    turns = [common_pb2.Message(role=role, content=content) for role, content in prompt]
    return common_pb2.Prompt(messages=common_pb2.ChatMessages(messages=turns))
