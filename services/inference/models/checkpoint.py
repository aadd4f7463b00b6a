"""Is a directory a checkpoint that can be served: configuration, tokenizer and whole safetensors, nothing pickled."""

from __future__ import annotations

import json
from pathlib import Path

from services.inference.models.errors import ModelError
from services.inference.models.safetensors_files import read_header, weight_files

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")


def check_checkpoint(directory: Path) -> list[Path]:
    """The checkpoint's weight files. Raises ModelError for whatever is missing or broken."""
    _check_config(directory)
    files = require_weights(directory)
    for file in files:
        read_header(file)
    if not any((directory / name).is_file() for name in _TOKENIZERS):
        raise ModelError(f"{directory} has no tokenizer", "Copy tokenizer.json and tokenizer_config.json into it.")
    return files


def require_weights(directory: Path) -> list[Path]:
    """The weight files. Raises ModelError that says what is there instead."""
    files = weight_files(directory)
    if not files:
        _say_what_is_there_instead(directory)
    return files


def _check_config(directory: Path) -> None:
    file = directory / "config.json"
    if not file.is_file():
        raise ModelError(f"{directory} has no config.json", "Name the directory that holds the model's files.")
    try:
        config = json.loads(file.read_text())
    except ValueError as error:
        raise ModelError(f"{file} is not JSON", "Fetch or copy the model again.") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ModelError(f"{file} names no model_type", "Use a checkpoint in the format of transformers.")


def _say_what_is_there_instead(directory: Path) -> None:
    if any(file for pattern in _PICKLED for file in directory.glob(pattern)):
        raise ModelError(
            f"{directory} has pickled weights only; loading them could run foreign code",
            "Convert the model to safetensors, or use a repository that has them.",
        )
    raise ModelError(f"{directory} has no .safetensors file", "Name the directory that holds the model's files.")
