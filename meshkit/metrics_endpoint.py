"""Prometheus metrics over HTTP, in a thread of their own; with exemplars for whoever asks for OpenMetrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, start_http_server


class MetricsEndpoint:
    """Serves from construction, which raises OSError where the port is taken, until `close`."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry) -> None:
        self._server, self._thread = start_http_server(port, host, registry)

    def close(self) -> None:
        """Stop listening. Blocks for up to half a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)
