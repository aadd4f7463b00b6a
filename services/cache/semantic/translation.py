"""Between the contract's messages and look-up by meaning: what an answer says, and what a verdict looks like."""

from __future__ import annotations

from typing import cast

from mesh.cache.v1 import cache_service_pb2 as pb
from meshkit.telemetry import names
from meshkit.telemetry.tracing import set_attributes
from services.cache.semantic.equivalence import AnswerText
from services.cache.semantic.verdict import Verdict


def answer_text(answer: pb.StoredAnswer) -> AnswerText | None:
    """All text of the answer; None for an answer of several, which has no one text."""
    deltas = [event.delta for event in answer.events]
    if any(delta.index for delta in deltas):
        return None
    calls: dict[int, list[str]] = {}
    for call in (call for delta in deltas for call in delta.tool_calls):
        parts = calls.setdefault(call.index, ["", ""])
        parts[0] += call.name
        parts[1] += call.arguments
    return AnswerText(
        text="".join(delta.text for delta in deltas),
        tool_calls=repr(sorted(calls.items())) if calls else "",
    )


def note_verdict(response: pb.LookupResponse, verdict: Verdict | None) -> None:
    """Say what decided; nothing where there was no look-up by meaning."""
    if verdict is None:
        return
    said = response.semantic
    said.decided_by = cast(pb.SemanticDecider, int(verdict.decided_by))
    said.problem = verdict.detail
    if verdict.similarity is not None:
        said.similarity = verdict.similarity
    if verdict.error_bound is not None:
        said.error_bound = verdict.error_bound
    set_attributes({names.CACHE_DECIDED_BY: verdict.decided_by.name.lower()})


def note_hit(hit: pb.Hit, verdict: Verdict | None) -> None:
    """A hit by meaning says how alike and how sure; an exact one says neither."""
    if verdict is not None and verdict.similarity is not None and verdict.error_bound is not None:
        hit.similarity, hit.error_bound = verdict.similarity, verdict.error_bound
