"""Why bytes are not a valid message, in words that name the field: for callers whose request could not be parsed.

protobuf says only 'parsing failed'. This walks the wire format beside the message's descriptor until the first string
that is not UTF-8. Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_MAX_DEPTH = 32
# A hostile message of millions of tiny fields must not hold the event loop; the walk is a courtesy.
_MAX_FIELDS = 5_000
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class _Malformed(Exception):
    """The bytes are not wire format."""


def invalid_utf8_field(data: bytes, descriptor: Descriptor) -> str | None:
    """Dotted path of the first string field that is not UTF-8, or None where the bytes are broken in another way."""
    try:
        return _Walk().through(memoryview(data), descriptor, "", 0)
    except _Malformed:
        return None


class _Walk:
    def __init__(self) -> None:
        self._fields_left = _MAX_FIELDS

    def through(self, data: memoryview, descriptor: Descriptor, prefix: str, depth: int) -> str | None:
        """The first bad string of one message and the messages in it."""
        if depth > _MAX_DEPTH:
            raise _Malformed
        position = 0
        while position < len(data):
            field, value, position = self._next(data, position, descriptor)
            if field is None or value is None:
                continue
            path = f"{prefix}{field.name}"
            if field.type == FieldDescriptor.TYPE_STRING and not _is_utf8(value):
                return path
            below = field.message_type if field.type == FieldDescriptor.TYPE_MESSAGE else None
            if below is not None and (found := self.through(value, below, f"{path}.", depth + 1)):
                return found
        return None

    def _next(
        self, data: memoryview, position: int, descriptor: Descriptor
    ) -> tuple[FieldDescriptor | None, memoryview | None, int]:
        if self._fields_left == 0:
            raise _Malformed
        self._fields_left -= 1
        tag, position = _varint(data, position)
        value, position = _value(data, position, tag & 7)
        return descriptor.fields_by_number.get(tag >> 3), value, position


def _value(data: memoryview, position: int, wire_type: int) -> tuple[memoryview | None, int]:
    """The bytes of a length-delimited field (None for the other types) and the position behind the field."""
    if wire_type == _VARINT:
        return None, _varint(data, position)[1]
    if wire_type in (_FIXED32, _FIXED64):
        end = position + (4 if wire_type == _FIXED32 else 8)
    elif wire_type == _LENGTH:
        length, position = _varint(data, position)
        end = position + length
    else:
        raise _Malformed
    if end > len(data):
        raise _Malformed
    return (data[position:end] if wire_type == _LENGTH else None), end


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _Malformed


def _is_utf8(value: memoryview) -> bool:
    try:
        str(value, "utf-8")
    except UnicodeDecodeError:
        return False
    return True
