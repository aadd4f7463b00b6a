"""RouterService: protobuf to the router's rules and back."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from mesh.common.v1 import common_pb2
from mesh.router.v1 import router_service_pb2, router_service_pb2_grpc
from meshkit.coalescing import Piece
from meshkit.errors import InvalidRequest, NotBuilt
from meshkit.incoming import current_call
from meshkit.picker import Picker
from services.router.answering import Answering
from services.router.asking import question_of
from services.router.balancer import Balancer
from services.router.catalogue import Catalogue
from services.router.checking import check_prompt
from services.router.engine_client import EngineClient
from services.router.events import Accepted, Finished
from services.router.journal import Journal
from services.router.settings import LimitSettings
from services.router.telling import accepted_message, delta_message, event_message, finished_message, model_message

_COUNT_TIMEOUT_S = 10.0


class RouterServicer(router_service_pb2_grpc.RouterServiceServicer):
    """Answers callers."""

    def __init__(
        self,
        *,
        answering: Answering,
        catalogue: Catalogue,
        picker: Picker,
        balancer: Balancer,
        engine: EngineClient,
        journal: Journal,
        limits: LimitSettings,
    ) -> None:
        self._answering = answering
        self._catalogue = catalogue
        self._picker = picker
        self._balancer = balancer
        self._engine = engine
        self._journal = journal
        self._limits = limits

    async def Generate(
        self, request: router_service_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[router_service_pb2.GenerateEvent]:
        question = question_of(request, current_call(), self._limits)
        seq = 0
        async with contextlib.aclosing(self._answering.answer(question)) as events:
            async for event in events:
                yield event_message(seq, event)
                seq += 1

    async def GenerateOnce(
        self, request: router_service_pb2.GenerateRequest, context: Any
    ) -> router_service_pb2.GenerateOnceResponse:
        question = question_of(request, current_call(), self._limits)
        answers: dict[int, common_pb2.Delta] = defaultdict(common_pb2.Delta)
        response = router_service_pb2.GenerateOnceResponse()
        async with contextlib.aclosing(self._answering.answer(question)) as events:
            async for event in events:
                if isinstance(event, Piece):
                    _append(answers[event.index], event)
                elif isinstance(event, Accepted):
                    response.accepted.CopyFrom(accepted_message(event))
                elif isinstance(event, Finished):
                    response.finished.CopyFrom(finished_message(event))
        response.answers.extend(answer for _, answer in sorted(answers.items()))
        response.text = answers[0].text
        return response

    async def ListModels(
        self, request: router_service_pb2.ListModelsRequest, context: Any
    ) -> router_service_pb2.ListModelsResponse:
        models = self._catalogue.models(self._picker.instances.current)
        return router_service_pb2.ListModelsResponse(models=[model_message(model) for model in models])

    async def CountTokens(
        self, request: router_service_pb2.CountTokensRequest, context: Any
    ) -> router_service_pb2.CountTokensResponse:
        check_prompt(request.prompt, self._limits)
        model = self._catalogue.choose(self._picker.instances.current, model=request.model)
        serving = {instance.id for instance in model.instances}
        instance = self._balancer.choose(self._picker.candidates(lambda known: known.id in serving))
        count = await self._engine.count_tokens(instance, request.prompt, _COUNT_TIMEOUT_S)
        return router_service_pb2.CountTokensResponse(prompt_tokens=count, model=model.name)

    async def Cancel(
        self, request: router_service_pb2.CancelRequest, context: Any
    ) -> router_service_pb2.CancelResponse:
        if bool(request.decision_id) == bool(request.idempotency_key):
            limit = "exactly one of decision_id, idempotency_key"
            raise InvalidRequest("says not which request is meant", field="decision_id", limit=limit)
        tenant = current_call().tenant
        cancelled = self._journal.cancel(
            tenant, decision_id=request.decision_id, idempotency_key=request.idempotency_key
        )
        return router_service_pb2.CancelResponse(cancelled=cancelled)

    async def Plan(self, request: Any, context: Any) -> router_service_pb2.PlanResponse:
        raise NotBuilt("Plan: needs the cost and latency predictions of tier routing, which this version does not have")

    async def Explain(self, request: Any, context: Any) -> router_service_pb2.ExplainResponse:
        raise NotBuilt("Explain: decisions are not kept yet; the trace of a request shows how it was decided")

    async def Embed(self, request: Any, context: Any) -> router_service_pb2.EmbedResponse:
        raise NotBuilt("Embed: no engine of this version embeds")

    async def ReportOutcome(self, request: Any, context: Any) -> router_service_pb2.ReportOutcomeResponse:
        raise NotBuilt("ReportOutcome: nothing learns from outcomes yet")


def _append(answer: common_pb2.Delta, piece: Piece) -> None:
    """Add a piece to the answer so far: lists grow by merging, text and count are sums."""
    text, token_count = answer.text, answer.token_count
    answer.MergeFrom(delta_message(piece))
    answer.text = text + piece.text
    answer.token_count = token_count + piece.token_count
