"""Jaeger's query API over HTTP: parameters in, its JSON out. Source: Jaeger's own query service, `/api/...`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from services.console import jaeger, query
from services.console.query import BadQuery
from services.console.reading import Reading
from services.console.spans import Trace

_DEPENDENCY_LOOKBACK_MS = 24 * 3600 * 1000


class Api:
    """Handlers of `/api`."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/services", self._services),
            web.get("/api/services/{service}/operations", self._operations),
            web.get("/api/operations", self._operations_with_kind),
            web.get("/api/traces", self._search),
            web.get("/api/traces/{id}", self._trace),
            web.get("/api/dependencies", self._dependencies),
        ]

    async def _services(self, request: web.Request) -> web.Response:
        names = await self._reading.run(lambda reader: reader.services())
        return web.json_response(jaeger.answer(names, total=len(names)))

    async def _operations(self, request: web.Request) -> web.Response:
        service = request.match_info["service"]
        found = await self._reading.run(lambda reader: reader.operations(service))
        names = sorted({name for name, _ in found})
        return web.json_response(jaeger.answer(names, total=len(names)))

    async def _operations_with_kind(self, request: web.Request) -> web.Response:
        service, kind = request.query.get("service", ""), request.query.get("spanKind", "")
        if not service:
            raise BadQuery("parameter 'service' is required")
        found = await self._reading.run(lambda reader: reader.operations(service))
        data = [{"name": name, "spanKind": its_kind} for name, its_kind in found if kind in ("", its_kind)]
        return web.json_response(jaeger.answer(data, total=len(data)))

    async def _search(self, request: web.Request) -> web.Response:
        if ids := [query.trace_id(text) for text in request.query.getall("traceID", [])]:
            wanted = ids[: query.DEFAULT_LIMIT]
            return _envelope(await self._reading.run(lambda reader: _encoded(map(reader.trace, wanted))))
        pairs = tuple(request.query.getall("tag", []))
        search = query.parse(request.query, tag_pairs=pairs, now_us=self._reading.now_us())
        return _envelope(await self._reading.run(lambda reader: _encoded(reader.traces(search))))

    async def _trace(self, request: web.Request) -> web.Response:
        trace_id = query.trace_id(request.match_info["id"])
        encoded = await self._reading.run(lambda reader: _encoded([reader.trace(trace_id)]))
        if not encoded:
            return web.json_response(jaeger.failure(404, "trace not found"), status=404)
        return _envelope(encoded)

    async def _dependencies(self, request: web.Request) -> web.Response:
        end_ms = _whole(request.query, "endTs", self._reading.now_us() // 1000)
        start_ms = end_ms - _whole(request.query, "lookback", _DEPENDENCY_LOOKBACK_MS)
        calls = await self._reading.run(lambda reader: reader.calls(start_ms * 1000, end_ms * 1000))
        return web.json_response(jaeger.answer(jaeger.call_links(calls)))


def failed(status: int, message: str) -> web.Response:
    """An error in Jaeger's form."""
    return web.json_response(jaeger.failure(status, message), status=status)


def _encoded(traces: Iterable[Trace | None]) -> list[str]:
    """Each trace on its own, and in a reader's thread: no single encoding holds the interpreter for long."""
    return [json.dumps(jaeger.trace_json(trace)) for trace in traces if trace is not None]


def _envelope(encoded: list[str]) -> web.Response:
    around: dict[str, Any] = {**jaeger.answer([]), "data": "@"}
    text = json.dumps(around).replace('"@"', f"[{', '.join(encoded)}]", 1)
    response = web.Response(text=text, content_type="application/json")
    response.enable_compression()
    return response


def _whole(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "") or str(default)
    if not (text.isascii() and text.isdecimal()) or len(text) > 15:
        raise BadQuery(f"unable to parse param '{name}': '{text[:40]}' is not a whole number")
    return int(text)
