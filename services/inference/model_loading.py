"""From the model's source to what the service needs of it: files on this machine, their revision, and the text side."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from meshkit.errors import BackendDown
from meshkit.telemetry import logs, names
from services.inference.model_files import UnusableModel
from services.inference.models import store
from services.inference.models.errors import ModelError
from services.inference.settings import InferenceSettings
from services.inference.text import TextModel, byte_text_model, load_text_model

_REVISION_CHARACTERS = 16
_ECHO_REVISION = "echo"
_log = logs.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """A model on this machine. The directory is None for the echo engine without a model."""

    revision: str
    directory: Path | None = None


async def fetch_model(settings: InferenceSettings) -> LocalModel:
    """Fetch or convert what isn't here yet, for minutes perhaps; raises BackendDown that says what to do."""
    if not settings.model.source:
        return LocalModel(revision=_ECHO_REVISION)
    files = await _in_thread(lambda: store.resolve(settings.model.source, settings.model.cache_dir, _Told()))
    # Eight-bit weights answer otherwise than those they were made from: cached answers must not be mixed up.
    suffix = "-int8" if settings.engine.dtype == "int8" else ""
    return LocalModel(revision=files.revision[:_REVISION_CHARACTERS] + suffix, directory=files.directory)


async def load_text(model: LocalModel) -> TextModel:
    """The text side, which takes seconds for a large vocabulary; raises BackendDown as well."""
    directory = model.directory
    return byte_text_model() if directory is None else await _in_thread(lambda: load_text_model(directory))


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except (ModelError, UnusableModel, OSError) as problem:
        raise BackendDown(f"the model can't be served: {problem}") from problem


class _Told:
    """Logs each stage once, and each quarter of it."""

    def __init__(self) -> None:
        self._last: tuple[str, int] | None = None

    def __call__(self, stage: str, fraction: float) -> None:
        quarter = (stage, int(fraction * 4))
        if quarter != self._last:
            self._last = quarter
            _log.info(names.LOG_ENGINE_PROGRESS, stage=stage, fraction=round(fraction, 2))
