"""Protobuf messages as plain data, by descriptor: a field that the contract gains is in the key without a change here.

Unset fields are left out; numbers that are no numbers are refused with the field's path. Fields that only a newer
version of the contract knows are kept by number, so that two requests which differ in one stay different.
"""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from meshkit.errors import InvalidRequest

_UNKNOWN = "?"
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


def plain_message(message: Message, path: str) -> dict[str, Any]:
    """Set fields by name. `path` names the message in errors. Raises InvalidRequest for NaN and infinities."""
    plain = {field.name: _plain_field(field, value, f"{path}.{field.name}") for field, value in message.ListFields()}
    unknown = UnknownFieldSet(message)
    return {**plain, _UNKNOWN: _plain_unknown(unknown)} if len(unknown) else plain


def _plain_field(field: FieldDescriptor, value: Any, path: str) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value_field = field.message_type.fields_by_name["value"]
        return {str(key): _plain_value(value_field, value[key], path) for key in value}
    if field.is_repeated:
        return [_plain_value(field, item, path) for item in value]
    return _plain_value(field, value, path)


def _plain_value(field: FieldDescriptor, value: Any, path: str) -> Any:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return plain_message(value, path)
    if field.cpp_type in _FLOATS and not math.isfinite(value):
        raise InvalidRequest(f"{value} is not a number that can be used", field=path, limit="a finite number")
    return value


def _plain_unknown(fields: UnknownFieldSet) -> list[tuple[int, str]]:
    """Number and value; a group's value is a set of fields again."""
    return [(field.field_number, _plain_unknown_value(field.data)) for field in (fields[i] for i in range(len(fields)))]


def _plain_unknown_value(value: Any) -> str:
    return repr(_plain_unknown(value) if isinstance(value, UnknownFieldSet) else value)
