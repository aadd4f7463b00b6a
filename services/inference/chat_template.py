"""A model's chat template: turns to the text that the model was trained on.

The template comes with the weights and is foreign code, so it runs in Jinja's immutable sandbox with the globals and
filters that transformers gives it (`raise_exception`, `strftime_now`, `tojson`, `namespace`).
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from meshkit.errors import InvalidRequest
from services.inference.requests import ToolCall, Turn

MAX_SHOWN_CHARACTERS = 200


class ChatTemplate:
    """One compiled template. Special tokens (`bos_token`, ...) are variables of the template."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        self._special_tokens = dict(special_tokens)
        self._template = _environment().from_string(source)

    def render(self, turns: Sequence[Turn]) -> str:
        """The prompt's text, up to where the answer begins. Raises InvalidRequest with the template's words."""
        try:
            return self._template.render(
                messages=[_as_variables(turn) for turn in turns], add_generation_prompt=True, **self._special_tokens
            )
        except (jinja2.TemplateError, TypeError, ValueError) as problem:
            shown = str(problem)[:MAX_SHOWN_CHARACTERS]
            raise InvalidRequest(f"the model's chat template refuses: {shown}", field="prompt.messages") from None


def join_turns(turns: Sequence[Turn]) -> str:
    """For a model without a template: one `role: content` line a turn, then `assistant:` to go on from."""
    return "".join(f"{turn.role}: {turn.content}\n" for turn in turns) + "assistant:"


def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationMark, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _GenerationMark(jinja2.ext.Extension):
    """`{% generation %}` marks assistant text for training; here it shows its content."""

    tags = {"generation"}  # noqa: RUF012 - Jinja declares it so

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.datetime.now().strftime(form)


def _as_variables(turn: Turn) -> dict[str, Any]:
    variables: dict[str, Any] = {"role": turn.role, "content": turn.content}
    if turn.name:
        variables["name"] = turn.name
    if turn.tool_call_id:
        variables["tool_call_id"] = turn.tool_call_id
    if turn.tool_calls:
        variables["tool_calls"] = [_call_as_variables(call) for call in turn.tool_calls]
    return variables


def _call_as_variables(call: ToolCall) -> dict[str, Any]:
    try:
        arguments: Any = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = call.arguments
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
