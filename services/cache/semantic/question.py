"""What is compared by meaning, and what must be equal: the last user message against the whole rest of the request.

The rest (model, system prompt, earlier turns, tools, sampling, stopping, output, constraint, who shares the answer) is
the frame. Two questions are compared only within one frame, so nothing but the question's wording is ever guessed at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.cache.request_key import request_digest, storage_key

_FRAME = "frame"
_USER = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question and the frame that it was asked in."""

    text: str
    partition: bytes
    """Names the tenant's frame; equal for requests that differ in the question only."""


def question_of(tenant: str, request: Mapping[str, Any], sharing: Sequence[str]) -> Question | None:
    """The question of a request in plain form; None where a request has none that can be compared."""
    prompt = request.get("prompt", {})
    split = _split(prompt)
    if split is None:
        return None
    text, rest = split
    frame = request_digest({**request, "prompt": rest}, (_FRAME, *sharing))
    return Question(text=text, partition=storage_key(tenant, frame))


def _split(prompt: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The question and the prompt without it."""
    if prompt.get("text"):
        return prompt["text"], {**prompt, "text": ""}
    messages = prompt.get("messages", {}).get("messages")
    if not messages or messages[-1].get("role") != _USER or not messages[-1].get("content"):
        return None
    last = {**messages[-1], "content": ""}
    return messages[-1]["content"], {**prompt, "messages": {"messages": [*messages[:-1], last]}}
