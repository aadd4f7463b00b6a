"""What can be learnt from safetensors files without loading them, and whether they are whole.

Format: 8 bytes little-endian header length, a JSON header with the offsets of each tensor, then the data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.inference.models.errors import ModelError

_MAX_HEADER_BYTES = 100_000_000  # the format's own limit
_FETCH_AGAIN = "Fetch or copy the model again."


def weight_files(directory: Path) -> list[Path]:
    """The checkpoint's files in the order of their names: those of the index, if there is one."""
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(directory.glob("*.safetensors"))
    names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    for name in names:
        if not (directory / name).is_file():
            raise ModelError(f"{directory} lacks {name}, which its index names", _FETCH_AGAIN)
    return [directory / name for name in names]


def read_header(file: Path) -> dict[str, Any]:
    """The header; raises ModelError if the file is not whole."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(_MAX_HEADER_BYTES, size - 8):
            raise ModelError(f"{file} is truncated or is not a safetensors file", _FETCH_AGAIN)
        try:
            header: dict[str, Any] = json.loads(stream.read(length))
        except ValueError as error:
            raise ModelError(f"{file} is not a safetensors file", _FETCH_AGAIN) from error
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    if 8 + length + max(ends, default=0) != size:
        raise ModelError(f"{file} is truncated: {size} bytes of {8 + length + max(ends, default=0)}", _FETCH_AGAIN)
    return header
