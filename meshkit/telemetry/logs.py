"""JSON log lines on standard error: one event per decision, with trace and span ids."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from opentelemetry import trace


class EventLogger:
    """Writes named events with fields. Names are constants of `names`; fields never hold prompt text or secrets."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: Any) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, stack: BaseException | None = None, **fields: Any) -> None:
        """`stack`: the exception whose traceback belongs in the log (and only there)."""
        self._write(logging.ERROR, event, fields, stack)

    def _write(self, level: int, event: str, fields: dict[str, Any], stack: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields}, exc_info=stack)


def get_logger(name: str) -> EventLogger:
    """The logger of a module."""
    return EventLogger(name)


def configure(service: str, level: str) -> None:
    """Send everything that this process logs to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    logging.getLogger("grpc").setLevel(logging.ERROR)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, service, event, fields, trace_id, span_id."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self._service,
            "event": record.getMessage(),
            "logger": record.name,
        }
        for key, value in getattr(record, "fields", {}).items():
            line[f"{key}_" if key in line else key] = value
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = f"{context.trace_id:032x}"
            line["span_id"] = f"{context.span_id:016x}"
        if record.exc_info:
            line["stack"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
