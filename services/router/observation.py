"""Turns a request's turning points into span attributes and events, metrics with exemplars, and one log line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue
from prometheus_client import CollectorRegistry, Counter, Histogram

from meshkit.telemetry import logs, names
from meshkit.telemetry.tracing import add_event, current_trace_id, set_attributes
from services.router.events import Accepted, Finished
from services.router.observer import Regenerated
from services.router.question import Objectives, Question

_TTFT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TPOT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_log = logs.get_logger(__name__)


class Observation:
    """The Observer of a running router. Labels are bounded: model, tier and cache status, never tenant or text."""

    def __init__(self, registry: CollectorRegistry, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        labels = ["model", "tier", "cache"]
        self._requests = Counter(
            names.METRIC_REQUESTS, "Requests answered, by end", [*labels, "finish"], registry=registry
        )
        self._ttft = Histogram(
            names.METRIC_TTFT, "Time to first token", labels, buckets=_TTFT_BUCKETS_S, registry=registry
        )
        self._tpot = Histogram(
            names.METRIC_TPOT, "Time per token after the first", labels, buckets=_TPOT_BUCKETS_S, registry=registry
        )
        self._tokens = Counter(names.METRIC_TOKENS, "Tokens", ["model", "tier", "kind"], registry=registry)
        self._cost = Counter(names.METRIC_COST, "Cost in micro-USD", ["model", "tier"], registry=registry)
        self._saved = Counter(
            names.METRIC_SAVED, "Saved in micro-USD, where it was positive", ["mechanism"], registry=registry
        )
        self._objectives = Counter(
            names.METRIC_OBJECTIVES,
            "Objectives that callers gave, by outcome",
            ["objective", "is_met"],
            registry=registry,
        )
        self._regenerations = Counter(
            names.METRIC_REGENERATIONS, "Stale answers to be made anew, by outcome", ["outcome"], registry=registry
        )

    def accepted(self, accepted: Accepted) -> None:
        set_attributes(
            {
                names.GEN_AI_OPERATION: "chat",
                names.GEN_AI_RESPONSE_MODEL: accepted.model,
                names.DECISION_ID: accepted.decision_id,
                names.TIER: accepted.tier,
                names.INSTANCE: accepted.instance,
                names.REVISION: accepted.revision,
                names.CACHE_STATUS: accepted.cache_status.value,
                **({names.CACHE_STALE: True} if accepted.is_stale else {}),
            }
        )
        add_event(names.EVENT_ACCEPTED)

    def first_token(self, ttft_s: float) -> None:
        add_event(names.EVENT_FIRST_TOKEN, **{names.TTFT_S: ttft_s})

    def retried(self, instance_id: str, reason: str, attempt: int) -> None:
        attributes: dict[str, AttributeValue] = {
            names.INSTANCE: instance_id,
            names.ATTEMPT: attempt,
            names.ERROR_TYPE: reason,
        }
        add_event(names.EVENT_RETRY, **attributes)
        _log.warning(names.LOG_REQUEST_RETRIED, instance=instance_id, reason=reason, attempt=attempt)

    def passed_over(self, what: str, reason: str) -> None:
        add_event(names.EVENT_PASSED_OVER, **{names.PEER: what, names.ERROR_TYPE: reason})

    def finished(self, question: Question, accepted: Accepted, finished: Finished) -> None:
        usage, timings, cost = finished.usage, finished.timings, finished.cost
        labels = (accepted.model, accepted.tier, accepted.cache_status.value)
        exemplar = {"trace_id": finished.trace_id}
        tpot_s = _tpot_s(finished)
        self._requests.labels(*labels, finished.finish_reason.value).inc(exemplar=exemplar)
        if timings.first_token_s is not None:
            self._ttft.labels(*labels).observe(timings.first_token_s, exemplar)
        if tpot_s is not None:
            self._tpot.labels(*labels).observe(tpot_s, exemplar)
        self._tokens.labels(accepted.model, accepted.tier, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(accepted.model, accepted.tier, "completion").inc(usage.completion_tokens)
        self._cost.labels(accepted.model, accepted.tier).inc(cost.total)
        self._saved.labels("cache").inc(max(0, cost.saved_by_cache))
        self._saved.labels("compression").inc(max(0, cost.saved_by_compression))
        self._count_objectives(question.objectives, finished, tpot_s)
        attributes: dict[str, AttributeValue] = {
            names.GEN_AI_INPUT_TOKENS: usage.prompt_tokens,
            names.GEN_AI_OUTPUT_TOKENS: usage.completion_tokens,
            names.GEN_AI_FINISH_REASONS: (finished.finish_reason.value,),
            names.COST_MICRO_USD: cost.total,
            names.SAVED_MICRO_USD: cost.saved_by_cache + cost.saved_by_compression,
            **({names.TPOT_S: tpot_s} if tpot_s is not None else {}),
        }
        set_attributes(attributes)
        _log.info(
            names.LOG_REQUEST_FINISHED,
            decision_id=accepted.decision_id,
            tenant=question.tenant,
            model=accepted.model,
            instance=accepted.instance,
            cache=accepted.cache_status.value,
            finish=finished.finish_reason.value,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            ttft_s=timings.first_token_s,
            total_s=timings.total_s,
            attempts=timings.attempts,
            cost_micro_usd=cost.total,
            labels=dict(question.labels),
        )

    @contextlib.contextmanager
    def regenerating(self) -> Iterator[str]:
        """A trace of its own, since it outlives the request's; a link says which request met the stale answer."""
        request = trace.get_current_span().get_span_context()
        span = self._tracer.start_span(names.SPAN_REGENERATE, context=Context(), links=[trace.Link(request)])
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            yield current_trace_id()

    def regenerated(self, outcome: Regenerated, reason: str = "", problem: Exception | None = None) -> None:
        self._regenerations.labels(outcome.value).inc()
        if outcome is Regenerated.FAILED:
            trace.get_current_span().set_status(trace.StatusCode.ERROR, reason)
            _log.warning(names.LOG_CACHE_REGENERATION_FAILED, reason=reason, stack=problem)

    def commit_failed(self, reason: str) -> None:
        _log.warning(names.LOG_CACHE_COMMIT_FAILED, reason=reason)

    def _count_objectives(self, objectives: Objectives, finished: Finished, tpot_s: float | None) -> None:
        measured = (
            ("ttft", objectives.ttft_s, finished.timings.first_token_s),
            ("tpot", objectives.tpot_s, tpot_s),
            ("e2e", objectives.e2e_s, finished.timings.total_s),
        )
        for name, objective_s, value_s in measured:
            if objective_s is not None and value_s is not None:
                self._objectives.labels(name, str(value_s <= objective_s).lower()).inc()


def _tpot_s(finished: Finished) -> float | None:
    """Time per output token after the first; None where there is no second token or nothing was generated."""
    token_count = finished.usage.completion_tokens
    if finished.timings.decode_s is None or token_count < 2:
        return None
    return finished.timings.decode_s / (token_count - 1)
