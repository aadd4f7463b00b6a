"""Prompts made of random tokens from a seed: the same for all engines, and no two alike unless they should be."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

PROMPT_TOKENS = 128
_SPECIAL_TOKENS = 300  # ids below hold single bytes and special tokens in most vocabularies
_HIGHEST = 100_000  # above lie special tokens in some


def make_prompts(model_dir: Path, lengths: Sequence[int], seed: str) -> list[list[int]]:
    """One prompt a length."""
    draw = random.Random(seed)
    lowest, highest = _range(model_dir)
    return [[draw.randrange(lowest, highest) for _ in range(length)] for length in lengths]


def _range(model_dir: Path) -> tuple[int, int]:
    config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
    size = int(config.get("text_config", config)["vocab_size"])
    return min(_SPECIAL_TOKENS, size // 4), min(_HIGHEST, size)
