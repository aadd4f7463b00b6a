"""The peer's end of LongLLMLingua: `python -m benchmarks.compressor.llmlingua_worker MODEL_DIR THREADS DTYPE`.

One JSON object a line on stdin, {"documents": [...], "question": ..., "target_token": ...}, one a line on stdout:
{"text": ...}, or {"error": ...} with the reason; the first line says that the model is loaded. It runs in the peer's
environment and without a network; libraries that print do so on stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = {
    "rank_method": "longllmlingua",
    "condition_in_question": "after_condition",
    "condition_compare": True,
    "reorder_context": "sort",
    "dynamic_context_compression_ratio": 0.3,
    "context_budget": "+100",
    "use_sentence_level_filter": False,
}
"""What the package's README recommends for questions over documents: the documents come out sorted by relevance."""


class LongLLMLingua:
    """The package's compressor over a causal model in a directory."""

    def __init__(self, model: Path, *, threads: int, dtype: str) -> None:
        os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        torch, tiktoken = _imported("torch"), _imported("tiktoken")
        torch.set_num_threads(threads)
        # The package fetches OpenAI's vocabulary, with which it counts for its report of savings and nothing else.
        tiktoken.encoding_for_model = lambda name: _Estimating()
        with tempfile.TemporaryDirectory() as scratch:
            self._compressor = _imported("llmlingua").PromptCompressor(
                model_name=str(_for_old_transformers(model, Path(scratch))),
                device_map="cpu",
                model_config={"torch_dtype": getattr(torch, dtype), "trust_remote_code": False},
            )
        # Losses are differences of logits: a half-precision one would lose most of what tells two tokens apart.
        self._compressor.model.lm_head.register_forward_hook(lambda module, given, logits: logits.float())
        self._rank = self._compressor.get_rank_results
        self._compressor.get_rank_results = self._ranked
        self._last_ranked: tuple[Any, Any] = (None, None)

    def compress(self, documents: Sequence[str], question: str, target_token: int) -> str:
        """The documents in about so many tokens of the model's."""
        found = self._compressor.compress_prompt(
            list(documents), question=question, target_token=target_token, concate_question=False, **SETTINGS
        )
        return str(found["compressed_prompt"])

    def _ranked(self, *asked: Any) -> Any:
        """Ranking reads every document whatever the target is, so the same prompt is ranked once."""
        known, ranks = self._last_ranked
        if known != asked:
            ranks = self._rank(*asked)
            self._last_ranked = (asked, ranks)
        return ranks


def _imported(name: str) -> Any:
    """A library of the peer's environment, of whose types ours knows nothing."""
    return importlib.import_module(name)


class _Estimating:
    """A stand-in for a tokenizer of which only the number of tokens is asked."""

    def encode(self, text: str) -> range:
        return range(len(text) // 4)


def _for_old_transformers(model: Path, scratch: Path) -> Path:
    """The same files with a configuration that transformers 4 reads: it would pass over `rope_parameters` in silence
    and rotate by its default."""
    for file in model.resolve().iterdir():
        if file.name != "config.json":
            (scratch / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text())
    rope = config.pop("rope_parameters", None)
    if rope:
        config["rope_theta"] = rope.pop("rope_theta")
        if rope.get("rope_type", "default") != "default":
            config["rope_scaling"] = rope
    (scratch / "config.json").write_text(json.dumps(config))
    return scratch


def main(model: str, threads: str, dtype: str) -> None:
    """Load the model, say so, then compress what each line holds until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    peer = LongLLMLingua(Path(model), threads=int(threads), dtype=dtype)
    print(json.dumps({"text": "ready"}), file=answers)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"text": peer.compress(asked["documents"], asked["question"], asked["target_token"])}
        except Exception as error:  # the package fails on some prompts; the next one may be well
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
