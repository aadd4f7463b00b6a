"""`python -m services.inference.models.convert FILE.gguf DIRECTORY`: de-quantise with transformers, save safetensors.

Weights are kept as float32, exactly what the file says: several ranks then map the same pages instead of making copies.
The tokenizer, the chat template (where the file has one) and the configuration are saved beside. Prints progress as
JSON lines on stdout; a failure is a last line with what went wrong, and status 1.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


def main(gguf_file: Path, directory: Path) -> int:
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(stage: str, fraction: float) -> None:
        print(json.dumps([stage, fraction]), file=lines)

    try:
        _convert(gguf_file, directory, tell)
    except Exception as error:
        traceback.print_exc()
        tell(f"{type(error).__name__}: {error}".splitlines()[0], 1.0)
        return 1
    return 0


def _convert(gguf_file: Path, directory: Path, tell: Callable[[str, float], None]) -> None:
    tell("reading the GGUF file", 0.0)
    _parse_each_file_once()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = gguf_file.parent, gguf_file.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, local_files_only=True)
    tell("converting weights", 0.5)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
        local_files_only=True,
    )
    tell("saving safetensors", 0.8)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    tell("checking the tokenizer", 0.95)
    AutoTokenizer.from_pretrained(directory, local_files_only=True)


def _parse_each_file_once() -> None:
    """transformers parses the file for the configuration, the tokenizer and the weights: 18 s each at 262k tokens."""
    import gguf

    gguf.GGUFReader = functools.cache(gguf.GGUFReader)  # type: ignore[misc,assignment]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
