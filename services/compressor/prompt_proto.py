"""A prompt of the contract as texts with roles, and the same prompt with other texts, without the messages and tools
that became empty. Nothing else ever changes."""

from __future__ import annotations

import json
from collections.abc import Sequence

from mesh.common.v1 import common_pb2
from services.compressor.prompt_text import TOOL_SCHEMA, Part


def parts_of(prompt: common_pb2.Prompt) -> tuple[Part, ...]:
    """The tools' schemas, then the texts in order. Bare text is one user message; token ids have none."""
    tools = tuple(Part(role=TOOL_SCHEMA, text=_schema_text(tool)) for tool in prompt.tools)
    if prompt.WhichOneof("input") == "messages":
        return (*tools, *map(_message_part, prompt.messages.messages))
    return (*tools, Part(role="user", text=prompt.text))


def with_texts(prompt: common_pb2.Prompt, texts: Sequence[str]) -> common_pb2.Prompt:
    """A copy with these texts in the places of the prompt's own, without what had a text and has none now."""
    changed = common_pb2.Prompt()
    changed.CopyFrom(prompt)
    schemas, texts = texts[: len(prompt.tools)], texts[len(prompt.tools) :]
    if not all(schemas):
        del changed.tools[:]
        changed.tools.extend(tool for tool, schema in zip(prompt.tools, schemas, strict=True) if schema)
    if prompt.WhichOneof("input") == "messages":
        del changed.messages.messages[:]
        for message, text in zip(prompt.messages.messages, texts, strict=True):
            if text or not message.content:
                changed.messages.messages.add().CopyFrom(message)
                changed.messages.messages[-1].content = text
    else:
        changed.text = texts[0]
    return changed


def _message_part(message: common_pb2.Message) -> Part:
    calls = (*(call.name for call in message.tool_calls), *([message.name] if message.role == "tool" else []))
    return Part(role=message.role, text=message.content, calls=calls)


def _schema_text(tool: common_pb2.Tool) -> str:
    head = json.dumps({"name": tool.name, "description": tool.description}, ensure_ascii=False)
    return f'{head[:-1]}, "parameters": {tool.parameters_json or "{}"}}}'
