"""Whether a prompt can be read at all: by form and by characters, before tokenising, so that a refusal is quick."""

from __future__ import annotations

from meshkit.errors import InvalidRequest, NotBuilt
from meshkit.limits import MAX_TURNS, check_characters, check_count, check_fits_context, check_token_ids
from services.inference.requests import Prompt, Turn

ROLES = ("system", "user", "assistant", "tool")


def check_prompt(prompt: Prompt, *, context_tokens: int, vocabulary_size: int) -> None:
    """Raise InvalidRequest or NotBuilt with the field's path."""
    if prompt.tool_count:
        raise NotBuilt("prompt.tools: this version has no tool calling")
    if prompt.token_ids is not None:
        _check_ids(prompt.token_ids, context_tokens, vocabulary_size)
    elif prompt.text is not None:
        _check_text(prompt.text, context_tokens)
    elif prompt.turns is not None:
        _check_turns(prompt.turns, context_tokens)
    else:
        raise InvalidRequest("is empty", field="prompt", limit="one of messages, text, token_ids")


def check_prompt_tokens(count: int, context_tokens: int) -> None:
    """Raise InvalidRequest for a prompt of no tokens, or one that leaves no room for an answer."""
    if count == 0:
        raise InvalidRequest("has no tokens", field="prompt", limit="at least 1 token")
    check_fits_context(count, context_tokens)


def _check_ids(ids: tuple[int, ...], context_tokens: int, vocabulary_size: int) -> None:
    if not ids:
        raise InvalidRequest("is empty", field="prompt.token_ids.ids", limit="at least 1 token")
    check_prompt_tokens(len(ids), context_tokens)
    check_token_ids(ids, vocabulary_size, "prompt.token_ids.ids")


def _check_text(text: str, context_tokens: int) -> None:
    if not text:
        raise InvalidRequest("is empty", field="prompt.text", limit="at least 1 character")
    check_characters(len(text), context_tokens)


def _check_turns(turns: tuple[Turn, ...], context_tokens: int) -> None:
    field = "prompt.messages.messages"
    if not any(turn.content or turn.tool_calls for turn in turns):
        raise InvalidRequest("is empty", field=field, limit="at least 1 message with content")
    check_count(len(turns), most=MAX_TURNS, field=field)
    check_characters(sum(len(turn.content) for turn in turns), context_tokens)
    for position, turn in enumerate(turns):
        if turn.role not in ROLES:
            limit = f"one of {', '.join(ROLES)}"
            raise InvalidRequest(f"{turn.role[:32]!r} is no role", field=f"{field}[{position}].role", limit=limit)
