"""A prompt of the contract as texts with roles, and the same prompt with other texts. Nothing else ever changes."""

from __future__ import annotations

from collections.abc import Sequence

from mesh.common.v1 import common_pb2
from services.compressor.prompt_text import Part


def parts_of(prompt: common_pb2.Prompt) -> tuple[Part, ...]:
    """The texts in order. Bare text is one user message; token ids have none."""
    if prompt.WhichOneof("input") == "messages":
        return tuple(Part(role=message.role, text=message.content) for message in prompt.messages.messages)
    return (Part(role="user", text=prompt.text),)


def with_texts(prompt: common_pb2.Prompt, texts: Sequence[str]) -> common_pb2.Prompt:
    """A copy with these texts in the places of the prompt's own."""
    changed = common_pb2.Prompt()
    changed.CopyFrom(prompt)
    if prompt.WhichOneof("input") == "messages":
        for message, text in zip(changed.messages.messages, texts, strict=True):
            message.content = text
    else:
        changed.text = texts[0]
    return changed
