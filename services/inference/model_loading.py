"""From the model's source to what the service needs of it: files on this machine, their revision, and the text side."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model on this machine. The directory is None for the echo engine without a model."""

    text: TextModel
    revision: str
    directory: Path | None = None


async def load_model(settings: InferenceSettings) -> LoadedModel:
    """Fetch or convert what isn't here yet, for minutes perhaps; raises BackendDown that says what to do."""
    if not settings.model.source:
        return LoadedModel(text=byte_text_model(), revision=_ECHO_REVISION)
    try:
        return await asyncio.to_thread(_load, settings.model.source, settings.model.cache_dir)
    except (ModelError, UnusableModel, OSError) as problem:
        raise BackendDown(f"the model can't be served: {problem}") from problem


def _load(source: str, cache_dir: Path) -> LoadedModel:
    files = store.resolve(source, cache_dir, _Told())
    text = load_text_model(files.directory)
    return LoadedModel(text=text, revision=files.revision[:_REVISION_CHARACTERS], directory=files.directory)


class _Told:
    """Logs each stage once, and each quarter of it."""

    def __init__(self) -> None:
        self._last: tuple[str, int] | None = None

    def __call__(self, stage: str, fraction: float) -> None:
        quarter = (stage, int(fraction * 4))
        if quarter != self._last:
            self._last = quarter
            _log.info(names.LOG_ENGINE_PROGRESS, stage=stage, fraction=round(fraction, 2))
