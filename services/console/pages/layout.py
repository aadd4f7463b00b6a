"""What all pages share: the frame, its style and script, the policy that allows just these two, colours and units."""

from __future__ import annotations

import base64
import hashlib
import time
import zlib
from collections.abc import Iterable
from importlib import resources

from services.console.pages.markup import Html, tag

_COLOUR_COUNT = 12


def _asset(name: str) -> Html:
    return Html((resources.files(__package__) / name).read_text("utf-8"))


_STYLE = _asset("style.css")
_SCRIPT = _asset("page.js")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src {_digest(_STYLE)}",
        f"script-src {_digest(_SCRIPT)}",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)


def page(title: str, *content: str, footer: str = "", trace_id: str = "") -> str:
    """A whole document."""
    search = tag(
        "form",
        tag("input", type="text", name="id", value=trace_id, placeholder="Trace ID", size="34", class_="mono",
            aria_label="Trace ID"),
        " ",
        tag("button", "Open"),
        action="/trace",
        method="get",
    )  # fmt: skip
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("link", rel="icon", href="data:,"),
        tag("title", title),
        tag("style", _STYLE),
    )
    body = tag(
        "body",
        tag(
            "header",
            tag("a", "Mesh console", href="/", class_="name"),
            tag("a", "Traces", href="/"),
            search,
            class_="top",
        ),
        tag("main", *content),
        tag("footer", footer),
        tag("script", _SCRIPT),
    )
    return "<!doctype html>\n" + tag("html", head, body, lang="en")


def error_page(status: int, message: str) -> str:
    """What went wrong, in a sentence, with a way back."""
    return page(f"{status}", tag("h1", message), tag("p", tag("a", "Back to the traces", href="/")))


def colours(services: Iterable[str]) -> dict[str, str]:
    """The class that colours each service: from its name, so that it outlives restarts; where two names would share
    one, the later name takes the next that is free. Give all pages the same services.
    """
    taken: dict[str, str] = {}
    for service in sorted(set(services)):
        wanted = zlib.crc32(service.encode())
        turns = (f"c{(wanted + step) % _COLOUR_COUNT}" for step in range(_COLOUR_COUNT))
        used = set(taken.values())
        taken[service] = next((turn for turn in turns if turn not in used), f"c{wanted % _COLOUR_COUNT}")
    return taken


def short_operation(operation: str) -> str:
    """mesh.cache.v1.CacheService/Lookup as CacheService/Lookup."""
    service, slash, method = operation.partition("/")
    return f"{service.rpartition('.')[2]}/{method}" if slash and service and " " not in service else operation


def dot(css_class: str) -> Html:
    """A small disc in a service's colour."""
    return tag("span", class_=f"dot {css_class}")


def duration(us: int) -> str:
    """Microseconds in the unit that a person would choose."""
    if us < 1000:
        return f"{us} µs"
    if us < 1_000_000:
        return f"{us / 1000:.3g} ms" if us < 999_500 else "1 s"
    seconds = us / 1e6
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def moment(us: int, *, form: str = "time") -> Html:
    """A point in time: UTC without scripts, local time with them."""
    stamp = _utc(us)
    iso = f"{stamp.replace(' ', 'T')}.{us // 1000 % 1000:03d}Z"
    return tag("time", f"{stamp} UTC", datetime=iso, data_form=form)


def byte_text(count: int) -> str:
    """Bytes as KiB or MiB."""
    return f"{count / 1024:.0f} KiB" if count < 1024 * 1024 else f"{count / 1024 / 1024:.1f} MiB"


def plural(count: int, noun: str) -> str:
    """1 span, 2 spans."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def _utc(us: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(us // 1_000_000))
    except (ValueError, OverflowError, OSError):
        return "0000-00-00 00:00:00"
