"""Bytes to a request, or an InvalidRequest that names the field and the limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from meshkit.errors import InvalidRequest
from meshkit.wire import invalid_utf8_field


def parser(deserializer: Callable[[bytes], Any] | None, max_bytes: int) -> Callable[[bytes], Any]:
    """A function that parses one message type and raises nothing but InvalidRequest."""
    # A stub's deserialiser is the bound `FromString` of the message's class.
    message_type = getattr(deserializer, "__self__", None)
    decode: Callable[[bytes], Any] = deserializer or bytes

    def parse(data: bytes) -> Any:
        if len(data) > max_bytes:
            raise InvalidRequest(f"{len(data)} bytes is too large", field="message", limit=f"{max_bytes} bytes")
        try:
            return decode(data)
        except DecodeError:
            raise _explain(data, getattr(message_type, "DESCRIPTOR", None)) from None

    return parse


def _explain(data: bytes, descriptor: Any) -> InvalidRequest:
    if descriptor is not None and (field := invalid_utf8_field(data, descriptor)):
        return InvalidRequest("is not valid UTF-8", field=field, limit="UTF-8 text")
    name = descriptor.full_name if descriptor is not None else "message of this method"
    return InvalidRequest(f"the bytes are not a {name}", field="message", limit="a protobuf message")
