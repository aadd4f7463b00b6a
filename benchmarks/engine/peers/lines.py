"""The peer's end: one JSON object a line on stdin names the work, one a line on stdout answers.

Standard library only, and Python 3.10: it runs in the peer's environment. Libraries that print do so on stderr.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Prompts = Sequence[Sequence[int]]


class Peer(Protocol):
    """See benchmarks.engine.contender for what each must do."""

    def hold(self, prompts: Prompts) -> None: ...

    def decode(self, drawn: int) -> float: ...

    def prefill(self, prompts: Prompts) -> float: ...


def serve(make: Callable[[], Peer]) -> None:
    """Make the peer, say so, then do what each line asks until stdin ends. An error ends it, as the last answer."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        peer = make()
        print(json.dumps({"value": "ready"}), file=answers)
        for line in sys.stdin:
            print(json.dumps({"value": _do(peer, json.loads(line))}), file=answers)
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers)


def _do(peer: Peer, work: dict[str, Any]) -> Any:
    return getattr(peer, work["call"])(*work["arguments"])
