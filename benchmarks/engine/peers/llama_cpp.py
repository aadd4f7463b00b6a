"""`python -m benchmarks.engine.peers.llama_cpp GGUF Q8_0|Q4_0 THREADS`: llama.cpp, several sequences in one batch.

The file is quantised anew, into a temporary folder, with llama.cpp's own defaults for the type. Prompts go in batches
of llama.cpp's default sizes; decoding puts one token of every sequence in one batch. Drawing is an argmax over the
logits, in numpy, as cheap as it gets.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import llama_cpp  # type: ignore[import-not-found]
import numpy

from benchmarks.engine.peers.lines import Prompts, serve

CONTEXT_TOKENS = 16384
MOST_SEQUENCES = 32
BATCH_TOKENS = 2048
FILE_TYPES = {"Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}


class LlamaCpp:
    """Keeps the prompts' cache between calls of `decode`."""

    def __init__(self, gguf: str, numbers: str, threads: int) -> None:
        llama_cpp.llama_log_set(_say_nothing, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{numbers}.gguf"
            _quantise(gguf, file, numbers)
            self._model = llama_cpp.llama_model_load_from_file(str(file).encode(), _unmapped())
        self._vocabulary_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._context = llama_cpp.llama_init_from_model(self._model, _context(threads))
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(BATCH_TOKENS, 0, 1)
        self._held: list[int] = []
        self._held_count = 0

    def hold(self, prompts: Prompts) -> None:
        llama_cpp.llama_memory_clear(self._memory, True)
        self._held, self._held_count = [], len(prompts[0])
        together = max(1, BATCH_TOKENS // self._held_count)
        for first in range(0, len(prompts), together):
            self._held += self._fill(list(enumerate(prompts))[first : first + together])

    def decode(self, drawn: int) -> float:
        tokens = list(self._held)
        began_at = time.monotonic()
        for position in range(self._held_count, self._held_count + drawn):
            for sequence, token in enumerate(tokens):
                self._put(token, position, sequence, wants_logits=True)
            tokens = self._run()
        took_s = time.monotonic() - began_at
        for sequence in range(len(tokens)):
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, self._held_count, -1)
        return len(tokens) * drawn / took_s

    def prefill(self, prompts: Prompts) -> float:
        began_at = time.monotonic()
        self.hold(prompts)
        return sum(len(prompt) for prompt in prompts) / (time.monotonic() - began_at)

    def _fill(self, numbered: list[tuple[int, Any]]) -> list[int]:
        """First tokens after these prompts, which fit in one batch."""
        for sequence, prompt in numbered:
            for position, token in enumerate(prompt):
                self._put(token, position, sequence, wants_logits=position == len(prompt) - 1)
        return self._run()

    def _put(self, token: int, position: int, sequence: int, *, wants_logits: bool) -> None:
        batch, row = self._batch, self._batch.n_tokens
        batch.token[row], batch.pos[row] = token, position
        batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
        batch.logits[row] = wants_logits
        batch.n_tokens += 1

    def _run(self) -> list[int]:
        """The likeliest token of each row that wants logits; empties the batch."""
        rows = [row for row in range(self._batch.n_tokens) if self._batch.logits[row]]
        if status := llama_cpp.llama_decode(self._context, self._batch):
            raise RuntimeError(f"llama_decode: {status}")
        self._batch.n_tokens = 0
        return [self._likeliest(row) for row in rows]

    def _likeliest(self, row: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, row)
        return int(numpy.ctypeslib.as_array(logits, (self._vocabulary_size,)).argmax())


@llama_cpp.llama_log_callback
def _say_nothing(level: int, text: bytes, user_data: Any) -> None:
    """At its default level the library writes every node of every graph."""


def _quantise(gguf: str, file: Path, numbers: str) -> None:
    wish = llama_cpp.llama_model_quantize_default_params()
    wish.ftype, wish.allow_requantize = FILE_TYPES[numbers], True
    if llama_cpp.llama_model_quantize(gguf.encode(), str(file).encode(), ctypes.byref(wish)):
        raise RuntimeError(f"{gguf} could not be quantised to {numbers}")


def _unmapped() -> Any:
    wish = llama_cpp.llama_model_default_params()
    wish.use_mmap = False  # the file goes away; loaded weights may also be repacked for this processor
    return wish


def _context(threads: int) -> Any:
    wish = llama_cpp.llama_context_default_params()
    wish.n_ctx, wish.n_batch, wish.n_seq_max = CONTEXT_TOKENS, BATCH_TOKENS, MOST_SEQUENCES
    wish.n_threads = wish.n_threads_batch = threads
    return wish


if __name__ == "__main__":
    serve(lambda: LlamaCpp(sys.argv[1], sys.argv[2], int(sys.argv[3])))
