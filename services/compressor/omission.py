"""How what was left out looks: each run becomes one short marker, never longer than the run itself.

Where the caller asked for handles, a marker names the call that fetches its text, in the form of a tool call. A run
that was summed up is marked by its summary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from services.compressor.selection.port import Piece
from services.compressor.shield import Shield

MARKER = "[…]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """A text with markers."""

    text: str
    left_out: tuple[str, ...] = ()
    handles: dict[str, str] = field(default_factory=dict)
    runs: tuple[tuple[str, bool], ...] = ()
    """What it was made of: runs of the text before, each kept or not."""


def marker(handle: str, summary: str = "") -> str:
    """What stands for a text; with a handle, it names the call of the tool `expand` that fetches it."""
    call = f'expand("{handle}")' if handle else ""
    if summary:
        return f"[summary: {summary} Whole text: {call}]" if call else f"[summary: {summary}]"
    return f"[left out: {call}]" if call else MARKER


def kept_and_left(text: str, pieces: Sequence[Piece], shield: Shield) -> list[tuple[str, bool]]:
    """Runs of the text, each kept or not, neighbours alike joined. Nothing protected is left out, whatever was chosen,
    and pieces that are not the text are no choice at all."""
    if "".join(piece.text for piece in pieces) != text:
        return [(text, True)]
    runs: list[tuple[str, bool]] = []
    start = 0
    for piece in pieces:
        end = start + len(piece.text)
        is_kept = piece.is_kept or shield.hard.overlaps(start, end) or shield.marked.overlaps(start, end)
        if runs and runs[-1][1] == is_kept:
            runs[-1] = (runs[-1][0] + piece.text, is_kept)
        elif piece.text:
            runs.append((piece.text, is_kept))
        start = end
    return runs


def thinned(
    runs: Sequence[tuple[str, bool]], handle_of: Callable[[str], str] | None, summaries: Mapping[str, str] | None = None
) -> Thinned:
    """The text that these runs give, with white space around markers as it was around their runs."""
    pieces: list[str] = []
    left_out: list[str] = []
    handles: dict[str, str] = {}
    for run, is_kept in runs:
        core = run.strip()
        handle = handle_of(core) if handle_of and core and not is_kept else ""
        sign = marker(handle, (summaries or {}).get(core, ""))
        if is_kept or len(sign) >= len(core):
            pieces.append(run)
            continue
        start = run.index(core)
        pieces += (run[:start], sign, run[start + len(core) :])
        left_out.append(core)
        if handle:
            handles[handle] = core
    return Thinned(text="".join(pieces), left_out=tuple(left_out), handles=handles, runs=tuple(runs))
