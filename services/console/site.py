"""The pages over HTTP: the list of traces, one trace, the jump to an id."""

from __future__ import annotations

import shlex

from aiohttp import web

from services.console import query
from services.console.intake import Intake
from services.console.pages import layout, list_page, trace_page
from services.console.query import BadQuery, TraceQuery
from services.console.reader import Reader
from services.console.reading import Reading


class Site:
    """Handlers of the pages."""

    def __init__(self, reading: Reading, intake: Intake, *, max_bytes: int) -> None:
        self._reading = reading
        self._intake = intake
        self._max_bytes = max_bytes

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self._list_page),
            web.get("/trace", self._open_trace),
            web.get("/trace/{id}", self._trace_page),
        ]

    async def _list_page(self, request: web.Request) -> web.Response:
        filters = {"lookback": "2d", "limit": "20", **request.query}
        problem, search = "", TraceQuery(limit=0)
        try:
            pairs = _typed_tags(filters.get("tags", ""))
            search = query.parse({**filters, "tags": ""}, tag_pairs=pairs, now_us=self._reading.now_us())
        except BadQuery as bad:
            problem = str(bad)
        footer = self._status_line()

        def read(reader: Reader) -> str:
            service = filters.get("service", "")
            return list_page.render(
                reader.summaries(search),
                services=reader.services(),
                operations=sorted({name for name, _ in reader.operations(service)}) if service else [],
                filters=filters,
                problem=problem,
                footer=footer,
            )

        return _html(await self._reading.run(read), status=400 if problem else 200)

    async def _open_trace(self, request: web.Request) -> web.Response:
        trace_id = query.trace_id(request.query.get("id", "").strip())
        raise web.HTTPSeeOther(f"/trace/{trace_id.hex()}")

    async def _trace_page(self, request: web.Request) -> web.Response:
        trace_id, footer = query.trace_id(request.match_info["id"]), self._status_line()

        def read(reader: Reader) -> str | None:
            found = reader.trace(trace_id)
            return trace_page.render(found, services=reader.services(), footer=footer) if found else None

        text = await self._reading.run(read)
        missing = f"Trace {trace_id.hex()} is not here. Its spans may still be on their way."
        return _html(text) if text else failed(404, missing)

    def _status_line(self) -> str:
        tally = self._intake.tally
        kept = f"{layout.byte_text(self._intake.file_bytes)} of {layout.byte_text(self._max_bytes)} used"
        parts = [f"{tally.stored:,} spans stored since the start", kept]
        if lost := tally.dropped.total():
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in tally.dropped.items())
            parts.append(f"{lost:,} dropped ({reasons})")
        if tally.last_problem:
            parts.append(f"nothing is being stored now: {tally.last_problem}")
        return " · ".join(parts)


def failed(status: int, message: str) -> web.Response:
    """An error as a page."""
    return _html(layout.error_page(status, message), status=status)


def _typed_tags(text: str) -> tuple[str, ...]:
    """`key=value other="two words"`, as a person types it, as the API's `key:value` pairs."""
    try:
        words = shlex.split(text)
    except ValueError:
        raise BadQuery("tags: a quotation mark is not closed") from None
    if bad := next((word for word in words if "=" not in word), None):
        raise BadQuery(f"tags: '{bad[:40]}' is not key=value")
    return tuple(word.replace("=", ":", 1) for word in words)


def _html(text: str, *, status: int = 200) -> web.Response:
    response = web.Response(text=text, status=status, content_type="text/html", charset="utf-8")
    response.enable_compression()
    return response
