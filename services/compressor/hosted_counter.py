"""Counts tokens for models that are hosted elsewhere, with tiktoken and files that the deployment puts in a folder.

Nothing is ever downloaded here. tiktoken would fetch a file that is missing or wrong, so each is checked by its digest
before tiktoken sees it. Where it is missing, or tiktoken does not know the model, counts are estimates.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meshkit.telemetry import logs, names
from services.compressor.token_counter import CountUnavailable

_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
"""What tiktoken names its files by: the SHA-1 of where they come from."""
_FILES = {
    "o200k_base": ("o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
    "o200k_harmony": ("o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
    "cl100k_base": ("cl100k_base", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
}
"""Of each encoding its file and the SHA-256 that tiktoken expects."""
_TOKENS_PER_MESSAGE = 4
_TOKENS_OF_REPLY = 3
"""What the chat format adds around a message, its role included, and before the answer:
https://github.com/openai/openai-cookbook, how_to_count_tokens_with_tiktoken."""
_log = logs.get_logger(__name__)


def file_name(encoding: str) -> str:
    """Of an encoding's file in the folder; what tiktoken calls it in TIKTOKEN_CACHE_DIR."""
    return hashlib.sha1(_URL.format(_FILES[encoding][0]).encode(), usedforsecurity=False).hexdigest()


class HostedCounters:
    """Gives each request of a hosted model a counter; `folder` empty: none."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._tiktoken: Any = _tiktoken() if folder else None
        self._encodings: dict[str, Any] = {}
        self._lock = asyncio.Lock()

    def counter_for(self, model: str) -> HostedCounter | None:
        """None where tiktoken is not there or does not know the model."""
        if self._tiktoken is None or not model:
            return None
        try:
            name = self._tiktoken.encoding_name_for_model(model)
        except KeyError:
            return None
        return HostedCounter(self, name) if name in _FILES else None

    async def encoding(self, name: str) -> Any:
        """Loaded once. Raises CountUnavailable."""
        async with self._lock:
            if name not in self._encodings:
                self._encodings[name] = await asyncio.to_thread(self._loaded, name)
        if self._encodings[name] is None:
            raise CountUnavailable(f"no file of {name}")
        return self._encodings[name]

    def _loaded(self, name: str) -> Any:
        path = self._folder / file_name(name)
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _FILES[name][1]:
            _log.warning(
                names.LOG_COUNTS_ESTIMATED, reason="not the file that tiktoken expects", file=str(path), encoding=name
            )
            return None
        os.environ["TIKTOKEN_CACHE_DIR"] = str(self._folder)
        return self._tiktoken.get_encoding(name)


def _tiktoken() -> Any:
    """Imported at start, since that takes long enough to be felt; None where it is not installed."""
    try:
        import tiktoken
    except ImportError:
        _log.warning(names.LOG_COUNTS_ESTIMATED, reason="the package tiktoken is not installed")
        return None
    return tiktoken


class HostedCounter:
    """A TokenCounter for one prompt."""

    def __init__(self, counters: HostedCounters, name: str) -> None:
        self._counters = counters
        self._name = name

    async def count(self, texts: Sequence[str]) -> int:
        encoding = await self._counters.encoding(self._name)
        present = [text.encode("utf-8", "replace").decode() for text in texts if text]
        found = await asyncio.to_thread(encoding.encode_ordinary_batch, present, num_threads=1)
        return _TOKENS_OF_REPLY + sum(_TOKENS_PER_MESSAGE + len(ids) for ids in found)
