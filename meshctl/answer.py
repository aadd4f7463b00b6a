"""Shows an answer: text as it streams, then one line with model, tokens, times, cost and the trace."""

import json
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict

from meshclient import Accepted, Delta, Event, Finished, Notice
from meshctl.failure import CommandFailed


async def show(events: AsyncIterator[Event], console_url: str) -> None:
    """Text to stdout, the summary line to stderr. Raises CommandFailed where the stream ends without `finished`."""
    accepted: Accepted | None = None
    async for event in events:
        match event:
            case Accepted():
                accepted = event
            case Delta(index=0):
                _write(event.text)
            case Notice():
                print(f"\n[{event.kind} {event.message}]", file=sys.stderr)
            case Finished():
                _write("\n")
                print(summary(accepted, event, console_url), file=sys.stderr)
                return
    raise CommandFailed("the stream ended without its last event")


async def show_json(events: AsyncIterator[Event]) -> None:
    """One JSON object a line, one line an event; `event` says which."""
    async for event in events:
        print(json.dumps({"event": type(event).__name__.lower(), **asdict(event)}), flush=True)


def summary(accepted: Accepted | None, finished: Finished, console_url: str) -> str:
    """model, tier, tokens, TTFT, TPOT, cost, trace; docs/operating.md says what each means."""
    usage = finished.usage
    parts = [
        *((accepted.model, accepted.tier) if accepted else ()),
        f"{usage.prompt_tokens} + {usage.completion_tokens} tokens",
        f"TTFT {_milliseconds(finished.timings.first_token_s)}",
        f"TPOT {_milliseconds(finished.tpot_s)}",
        f"${finished.cost.total / 1e6:.6f}",
        *_notable(accepted, finished),
        f"{console_url}/trace/{finished.trace_id}" if finished.trace_id else "no trace",
    ]
    return " | ".join(part for part in parts if part)


def _notable(accepted: Accepted | None, finished: Finished) -> list[str]:
    """What is worth a word only when it happened."""
    notes = []
    if accepted and accepted.cache_status == "hit":
        notes.append("stale cache hit" if accepted.is_stale else "cache hit")
    if finished.usage.compressed_from_tokens > finished.usage.prompt_tokens:
        notes.append(f"compressed from {finished.usage.compressed_from_tokens}")
    if finished.finish_reason != "stop":
        notes.append(f"ended by {finished.finish_reason}")
    return notes


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.3g} ms"


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
