"""Counts tokens by asking an instance of the model that will read them. An adapter to the inference contract."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.common.v1 import common_pb2
from mesh.inference.v1 import inference_service_pb2 as inference_pb
from mesh.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from meshkit.calls import Calls
from meshkit.channels import ChannelPool
from meshkit.errors import BackendDown, DeadlineExceeded, MeshError, NotReady
from meshkit.picker import Picker
from meshkit.registry.base import Instance
from services.compressor.patience import patience_s
from services.compressor.prompt_proto import with_texts
from services.compressor.token_counter import CountUnavailable


class InstanceCounters:
    """Gives each request a counter for its prompt and model."""

    def __init__(self, picker: Picker, channels: ChannelPool, calls: Calls, *, timeout_s: float) -> None:
        self._picker = picker
        self._channels = channels
        self._calls = calls
        self._timeout_s = timeout_s

    def counter_for(self, prompt: common_pb2.Prompt, model: str) -> InstanceCounter | None:
        """None where no instance is known that reads with this model; an empty model is any, if all are the same."""
        models = {instance.metadata.get("model", "") for instance in self._picker.instances.current}
        if not model and len(models) == 1:
            model = next(iter(models))
        if not model or model not in models:
            return None
        return InstanceCounter(self, prompt, model)

    async def count(self, prompt: common_pb2.Prompt, model: str) -> int:
        """Ask the next instance of the model. Raises CountUnavailable."""
        try:
            return await self._ask(self._picker.pick(wanted=lambda one: self._may_ask(one, model)), prompt)
        except MeshError as error:
            raise CountUnavailable(error.reason) from error

    def _may_ask(self, instance: Instance, model: str) -> bool:
        return instance.metadata.get("model", "") == model and not self._picker.is_resting(instance)

    async def _ask(self, instance: Instance, prompt: common_pb2.Prompt) -> int:
        stub = self._channels.stub(InferenceServiceStub, instance.address)
        request = inference_pb.TokenizeRequest(prompt=prompt, count_only=True)
        try:
            reply = await self._calls.unary(
                stub.Tokenize, request, timeout_s=patience_s(self._timeout_s), peer=instance.address
            )
        except (BackendDown, NotReady, DeadlineExceeded):
            self._picker.failed(instance)
            raise
        self._picker.succeeded(instance)
        return int(reply.token_count)


class InstanceCounter:
    """A TokenCounter for one prompt."""

    def __init__(self, counters: InstanceCounters, prompt: common_pb2.Prompt, model: str) -> None:
        self._counters = counters
        self._prompt = prompt
        self._model = model

    async def count(self, texts: Sequence[str]) -> int:
        return await self._counters.count(with_texts(self._prompt, texts), self._model)
