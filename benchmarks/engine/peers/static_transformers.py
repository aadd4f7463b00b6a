"""`python -m benchmarks.engine.peers.static_transformers MODEL_DIR fp32|int8 THREADS`: one batch from start to end.

What `transformers.generate` does for prompts of one length, without its own overhead: a forward pass over the batch,
then one a token, all sequences to the end of the longest. int8: every Linear replaced by torch's dynamic int8.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from benchmarks.engine.peers.lines import Prompts, serve


class StaticBatch:
    """Keeps the prompts' cache between calls of `decode`."""

    def __init__(self, model_dir: str, numbers: str, threads: int) -> None:
        torch.set_num_threads(threads)
        model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, local_files_only=True).eval()
        self._model: Any = _with_int8_linears(model) if numbers == "int8" else model
        self._cache, self._held = DynamicCache(), torch.empty(0, 1, dtype=torch.long)

    @torch.inference_mode()
    def hold(self, prompts: Prompts) -> None:
        self._cache = DynamicCache()
        self._held = self._step(torch.tensor(prompts))

    @torch.inference_mode()
    def decode(self, drawn: int) -> float:
        began_at = time.monotonic()
        self._draw(self._held, drawn)
        took_s = time.monotonic() - began_at
        self._cache.crop(-drawn)
        return len(self._held) * drawn / took_s

    def prefill(self, prompts: Prompts) -> float:
        began_at = time.monotonic()
        self.hold(prompts)
        return sum(len(prompt) for prompt in prompts) / (time.monotonic() - began_at)

    @torch.inference_mode()
    def run_static(self, prompts: Prompts, lengths: Sequence[int], batch_size: int) -> float:
        """Seconds for all, batch by batch; a batch ends with its longest sequence."""
        began_at = time.monotonic()
        for first in range(0, len(prompts), batch_size):
            self.hold(prompts[first : first + batch_size])
            self._draw(self._held, max(lengths[first : first + batch_size]) - 1)
        return time.monotonic() - began_at

    def _draw(self, tokens_B1: torch.Tensor, count: int) -> None:
        for _ in range(count):
            tokens_B1 = self._step(tokens_B1)

    def _step(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        output = self._model(input_ids=tokens_BT, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1].argmax(-1, keepdim=True)


def _with_int8_linears(model: Any) -> Any:
    torch.backends.quantized.engine = "fbgemm"
    return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


if __name__ == "__main__":
    serve(lambda: StaticBatch(sys.argv[1], sys.argv[2], int(sys.argv[3])))
