"""RED metrics of every RPC: rate and errors by code, duration with a trace as exemplar, calls in progress."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, Histogram

from meshkit.telemetry import names

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class RpcMetrics:
    """Counts what a server does. `method` is bounded: only methods that exist are wrapped."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.duration = Histogram(
            names.METRIC_RPC_DURATION, "Time to serve an RPC", ["method", "code"], buckets=_BUCKETS_S, registry=registry
        )
        self.active = Gauge(names.METRIC_RPC_ACTIVE, "RPCs in progress", ["method"], registry=registry)
        self.active_count = 0
        """Calls in progress: what a drain waits for. Health watches are not among them; they would never end."""

    def of(self, method: str) -> MethodMetrics:
        """The part of one method."""
        return MethodMetrics(self, method)


class MethodMetrics:
    """Looks the labelled series up once a method rather than twice a call."""

    def __init__(self, metrics: RpcMetrics, method: str) -> None:
        self._metrics = metrics
        self._method = method
        self._active = metrics.active.labels(method)
        self._duration_by_code: dict[str, Histogram] = {}

    def began(self) -> None:
        """A call arrived."""
        self._metrics.active_count += 1
        self._active.inc()

    def ended(self, code: str, duration_s: float, exemplar: dict[str, str] | None) -> None:
        """A call ended with this status."""
        self._metrics.active_count -= 1
        self._active.dec()
        duration = self._duration_by_code.get(code)
        if duration is None:
            duration = self._duration_by_code[code] = self._metrics.duration.labels(self._method, code)
        duration.observe(duration_s, exemplar)
