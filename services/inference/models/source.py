"""What an operator may name as a model, told apart by form alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from services.inference.models.errors import ModelError

Kind = Literal["directory", "gguf", "hub", "packaged"]

PACKAGED_PREFIX = "packaged:"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model source of a known kind. `value` is a path, `owner/name[@revision]`, or a package's model name."""

    kind: Kind
    value: str


def parse_source(text: str) -> Source:
    """Raises ModelError for a form that is none of the four."""
    if text.startswith(PACKAGED_PREFIX):
        return Source(kind="packaged", value=text.removeprefix(PACKAGED_PREFIX))
    path = Path(text).expanduser()
    if text and path.is_dir():
        return Source(kind="directory", value=str(path.resolve()))
    if path.suffix.lower() == ".gguf":
        return Source(kind="gguf", value=str(path.resolve()))
    if _HUB_ID.fullmatch(text) and not text.startswith((".", "/", "~")):
        return Source(kind="hub", value=text)
    raise ModelError(
        f"{text!r} is not a model source",
        "Name a directory with safetensors, a .gguf file, a hub id such as owner/name, or packaged:gemma3-270m.",
    )
