"""What a model directory says about text: tokenizer, chat template, end tokens, sampling defaults; never weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from services.inference.requests import SamplingWish

TOKENIZER_FILE = "tokenizer.json"
_SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")


class UnusableModel(Exception):
    """A model directory lacks what is needed; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """The readable part of a model directory."""

    tokenizer: Tokenizer
    template_source: str
    special_tokens: Mapping[str, str]
    adds_bos: bool
    eos_token_ids: tuple[int, ...]
    sampling_defaults: SamplingWish


def read_model_files(directory: Path) -> ModelFiles:
    """Raise UnusableModel where the directory has no fast tokenizer."""
    path = directory / TOKENIZER_FILE
    if not path.is_file():
        raise UnusableModel(f"{directory} holds no {TOKENIZER_FILE}; only models with a fast tokenizer can be served")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = _read_json(directory / "config.json")
    tokenizer_config = _read_json(directory / "tokenizer_config.json")
    generation_config = _read_json(directory / "generation_config.json")
    special_tokens = _special_tokens(tokenizer_config, _read_json(directory / "special_tokens_map.json"))
    return ModelFiles(
        tokenizer=tokenizer,
        template_source=_template_source(directory, tokenizer_config),
        special_tokens=special_tokens,
        adds_bos=tokenizer_config.get("add_bos_token") is True,
        eos_token_ids=_eos_token_ids(tokenizer, special_tokens, generation_config, config),
        sampling_defaults=_sampling_defaults(generation_config),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as problem:
        raise UnusableModel(f"{path} is not valid JSON: {problem}") from None
    return value if isinstance(value, dict) else {}


def _sampling_defaults(generation_config: Mapping[str, Any]) -> SamplingWish:
    return SamplingWish(
        temperature=generation_config.get("temperature"),
        top_p=generation_config.get("top_p"),
        top_k=generation_config.get("top_k"),
        min_p=generation_config.get("min_p"),
        repetition_penalty=generation_config.get("repetition_penalty"),
    )


def _template_source(directory: Path, tokenizer_config: Mapping[str, Any]) -> str:
    """`chat_template.jinja` first, as transformers writes it now; then the older places."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = tokenizer_config.get("chat_template") or _read_json(directory / "chat_template.json").get("chat_template")
    if isinstance(found, list):
        found = {entry.get("name"): entry.get("template") for entry in found}.get("default")
    return found if isinstance(found, str) else ""


def _special_tokens(*sources: Mapping[str, Any]) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for name in _SPECIAL_NAMES:
        value = next((source[name] for source in sources if source.get(name)), None)
        if isinstance(value, Mapping):
            value = value.get("content")
        if isinstance(value, str):
            tokens[name] = value
    return tokens


def _eos_token_ids(
    tokenizer: Tokenizer, special_tokens: Mapping[str, str], *configs: Mapping[str, Any]
) -> tuple[int, ...]:
    """Every id that a file calls an end: chat models end a turn with another token than a text."""
    ids: set[int] = set()
    for config in configs:
        value = config.get("eos_token_id")
        ids.update(value if isinstance(value, list) else [] if value is None else [value])
    if (eos := special_tokens.get("eos_token")) is not None and (eos_id := tokenizer.token_to_id(eos)) is not None:
        ids.add(eos_id)
    return tuple(sorted(ids))
