"""The compressor service, over gRPC."""

from __future__ import annotations

from typing import cast

from mesh.common.v1 import common_pb2
from mesh.compressor.v1 import compressor_service_pb2, compressor_service_pb2_grpc
from mesh.router.v1 import router_service_pb2
from meshkit.calls import Calls
from meshkit.channels import ChannelPool
from meshkit.errors import BackendDown, DeadlineExceeded
from meshkit.picker import Picker
from services.router.catalogue import Model
from services.router.events import Compression
from services.router.optional_peer import pick_for
from services.router.ports import Compressed
from services.router.pricing import FREE, Price
from services.router.question import Question

_MODES = {
    "lossless": common_pb2.COMPRESSION_MODE_LOSSLESS,
    "selective": common_pb2.COMPRESSION_MODE_SELECTIVE,
    "abstractive": common_pb2.COMPRESSION_MODE_ABSTRACTIVE,
}


class CompressorClient:
    """Asks one instance, in turn; the original prompt is the fall-back."""

    def __init__(
        self, *, picker: Picker, channels: ChannelPool, calls: Calls, timeout_s: float, abstractive_timeout_s: float
    ) -> None:
        self._picker = picker
        self._channels = channels
        self._calls = calls
        self._timeout_s = timeout_s
        self._abstractive_timeout_s = abstractive_timeout_s

    async def compress(self, question: Question, model: Model) -> Compressed:
        request = cast(router_service_pb2.GenerateRequest, question.payload)
        policy = request.compression
        message = compressor_service_pb2.CompressRequest(
            prompt=request.prompt,
            model=model.name,
            mode=_MODES[question.compression_mode],
            target_ratio=policy.target_ratio if policy.HasField("target_ratio") else None,
            min_quality=policy.min_quality if policy.HasField("min_quality") else None,
            protect=policy.protect,
            frozen_prefix=policy.frozen_prefix,
            session_id=request.session_id,
            prices=_prices(model.price),
        )
        conversation = f"{question.tenant}\0{request.session_id}" if request.session_id else ""
        timeout_s = self._abstractive_timeout_s if question.compression_mode == "abstractive" else self._timeout_s
        instance = pick_for(self._picker, conversation)
        stub = self._channels.stub(compressor_service_pb2_grpc.CompressorServiceStub, instance.address)
        try:
            reply = await self._calls.unary(stub.Compress, message, timeout_s=timeout_s, peer=instance.id)
        except (BackendDown, DeadlineExceeded):
            self._picker.failed(instance)
            raise
        self._picker.succeeded(instance)
        summary = Compression(
            original_tokens=reply.original_tokens,
            compressed_tokens=reply.compressed_tokens,
            quality_score=reply.quality_score,
            reason_original_kept=reply.reason_original_kept,
            is_estimate=reply.counts_are_estimates,
        )
        return Compressed(payload=reply.compressed, summary=summary)


def _prices(price: Price) -> compressor_service_pb2.InputPrices | None:
    """None for a model without a price: nothing can be weighed in money then."""
    if price is FREE:
        return None
    return compressor_service_pb2.InputPrices(
        input_micro_usd=price.input_micro_usd, cached_input_micro_usd=price.cached_input_micro_usd
    )
