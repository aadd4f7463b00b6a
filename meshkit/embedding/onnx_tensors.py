"""The named weights of an ONNX file, found in place: enough of protobuf's wire format to walk to them, copying nothing.

The onnx package would read the whole model into memory; here the caller maps the file and looks at parts of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

_GRAPH, _INITIALIZER = 7, 5  # ModelProto.graph, GraphProto.initializer
_DIMS, _NAME, _RAW = 1, 8, 9  # of TensorProto
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """Where a tensor's little-endian bytes lie in the file."""

    shape: tuple[int, ...]
    offset: int
    byte_count: int


def tensors(file: memoryview, names: Collection[str]) -> dict[str, Tensor]:
    """Those of these names that the file holds as raw bytes. Raises ValueError where it is no such file."""
    found: dict[str, Tensor] = {}
    for number, start, end in _fields(file, 0, len(file)):
        if number == _GRAPH:
            for inner, tensor_start, tensor_end in _fields(file, start, end):
                if inner == _INITIALIZER:
                    name, tensor = _tensor(file, tensor_start, tensor_end)
                    if name in names:
                        found[name] = tensor
    return found


def _tensor(file: memoryview, start: int, end: int) -> tuple[str, Tensor]:
    shape: list[int] = []
    name, offset, byte_count = "", 0, 0
    for number, field_start, field_end in _fields(file, start, end):
        if number == _DIMS:
            shape.append(_varint(file, field_start)[0])
        elif number == _NAME:
            name = bytes(file[field_start:field_end]).decode("utf-8", "replace")
        elif number == _RAW:
            offset, byte_count = field_start, field_end - field_start
    return name, Tensor(shape=tuple(shape), offset=offset, byte_count=byte_count)


def _fields(file: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field's value between two places."""
    while start < end:
        key, start = _varint(file, start)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            stop = _varint(file, start)[1]
        elif kind == _BYTES:
            length, start = _varint(file, start)
            stop = start + length
        elif kind in (_FIXED64, _FIXED32):
            stop = start + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError(f"wire type {kind} is not known")
        if stop > end:
            raise ValueError("a field reaches beyond its message")
        yield number, start, stop
        start = stop


def _varint(file: memoryview, start: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(start, min(start + 10, len(file))):
        value |= (file[place] & 0x7F) << shift
        shift += 7
        if file[place] < 0x80:
            return value, place + 1
    raise ValueError("an unfinished number")
