"""How near single words are in meaning, without running a model: the rows of MiniLM's own table of word pieces.

Comparing a few words with a thousand others takes a millisecond, where embedding as many sentences takes seconds on
one core. The table is mapped from the model's file and its rows are unpacked as they are asked for.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from meshkit.embedding.minilm import MODEL, TOKENIZER, Unavailable, packaged_file
from meshkit.embedding.onnx_tensors import tensors

_WEIGHTS = "inner.embeddings.word_embeddings.weight_q"
_SCALES = "inner.embeddings.word_embeddings.weight_scale"
_FIRST_WORD, _LAST_WORD = 1996, 29_612  # word pieces by falling frequency: "the" to the last that starts a word
UNKNOWN = 100
_POWER_STEPS = 8


class WordVectors(Protocol):
    """Word pieces by number, and how near they are. `MiniLmWords` is real; tests have a fake."""

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The word pieces of each text. Raises Unavailable."""
        ...

    def cosines(self, some: Sequence[int], others: Sequence[int]) -> Any:
        """How near each of some is to each of the others, as an array [some, others]."""
        ...

    def rarity(self, ids: Sequence[int]) -> Any:
        """How much each says by being rare in general text; about 1 (everywhere) to 8."""
        ...


class MiniLmWords:
    """Loads on first use, which takes a fifth of a second. Safe in threads."""

    def __init__(self) -> None:
        self._loaded: _Loaded | None = None
        self._lock = threading.Lock()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self._table().ids(texts)

    def cosines(self, some: Sequence[int], others: Sequence[int]) -> Any:
        return self._table().cosines(some, others)

    def rarity(self, ids: Sequence[int]) -> Any:
        return self._table().rarity(ids)

    def _table(self) -> _Loaded:
        with self._lock:
            if self._loaded is None:
                self._loaded = _Loaded()
            return self._loaded


class _Loaded:
    def __init__(self) -> None:
        try:
            import numpy as np
            from tokenizers import Tokenizer
        except ImportError as error:
            raise Unavailable(f"the package {error.name} is not installed") from error
        self._np: Any = np
        self._tokenizer = Tokenizer.from_file(str(packaged_file(*TOKENIZER)))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._weights_VD, self._scales_V = _table(np)
        self._mean_D, self._common_D = self._shared_direction()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def cosines(self, some: Sequence[int], others: Sequence[int]) -> Any:
        return self._vectors(some) @ self._vectors(others).T

    def rarity(self, ids: Sequence[int]) -> Any:
        """The vocabulary is in order of frequency, and by Zipf's law the place in it tells how rare a word is."""
        places = self._np.maximum(self._np.asarray(ids, self._np.int64) - _FIRST_WORD + 1, 1)
        return self._np.log(places + 20.0) - 2.0

    def _vectors(self, ids: Sequence[int]) -> Any:
        np = self._np
        rows = np.asarray(ids, np.int64)
        vectors_ND = self._weights_VD[rows].astype(np.float32) * self._scales_V[rows, None] - self._mean_D
        vectors_ND -= (vectors_ND @ self._common_D)[:, None] * self._common_D
        return vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-9)

    def _shared_direction(self) -> tuple[Any, Any]:
        """What all words have in common and so says nothing: their mean, and the direction of most variance."""
        np = self._np
        sample = self._weights_VD[_FIRST_WORD:_LAST_WORD:4].astype(np.float32)
        sample *= self._scales_V[_FIRST_WORD:_LAST_WORD:4, None]
        mean_D = sample.mean(axis=0)
        sample -= mean_D
        direction_D = np.ones(len(mean_D), np.float32)
        for _ in range(_POWER_STEPS):
            direction_D = sample.T @ (sample @ direction_D)
            direction_D /= np.linalg.norm(direction_D)
        return mean_D, direction_D


def _table(np: Any) -> tuple[Any, Any]:
    with packaged_file(*MODEL).open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    found = tensors(mapped, (_WEIGHTS, _SCALES))
    if set(found) != {_WEIGHTS, _SCALES}:
        raise Unavailable("the embedding model has no table of word pieces")
    weights, scales = found[_WEIGHTS], found[_SCALES]
    weights_VD = np.frombuffer(mapped, np.int8, weights.byte_count, weights.offset).reshape(weights.shape)
    return weights_VD, np.frombuffer(mapped, "<f4", scales.byte_count // 4, scales.offset)
