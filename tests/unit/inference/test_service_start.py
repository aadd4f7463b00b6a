"""Rules of how an instance starts."""

import asyncio
from pathlib import Path

import pytest

from meshkit.errors import BackendDown
from meshkit.settings import RegistrySettings, ServerSettings
from meshkit.testing import test_chassis
from services.inference import app, model_loading
from services.inference.app import InferenceService, build
from services.inference.model_loading import LocalModel
from services.inference.settings import InferenceSettings, ModelSettings
from services.inference.text import TextModel, byte_text_model
from tests.support.inference_engines import echo

SETTINGS = InferenceSettings(
    server=ServerSettings(port=0),
    registry=RegistrySettings(kind="none"),
    model=ModelSettings(source="/a/model", name="tiny"),
)


@pytest.fixture
def engine_is_started(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once the engine is asked to start; the model's files are there."""
    started, engine = asyncio.Event(), echo()
    start = engine.start

    async def tell() -> object:
        started.set()
        return await start()

    async def here(settings: InferenceSettings) -> LocalModel:
        return LocalModel(revision="r1", directory=Path("/a/model"))

    monkeypatch.setattr(engine, "start", tell)
    monkeypatch.setattr(app, "build_engine", lambda *_: engine)
    monkeypatch.setattr(app, "fetch_model", here)
    return started


async def test_the_tokenizer_is_read_while_the_engine_starts(
    engine_is_started: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(model: LocalModel) -> TextModel:
        await engine_is_started.wait()
        return byte_text_model()

    monkeypatch.setattr(app, "load_text", read)
    service = build(SETTINGS, test_chassis(SETTINGS, InferenceService))
    async with asyncio.timeout(5):
        metadata = await service.start()
        assert (metadata["model"], metadata["revision"]) == ("tiny", "r1")
        assert isinstance(service, InferenceService) and service.is_ready
        await service.close()


async def test_a_tokenizer_that_cannot_be_read_ends_the_start_and_the_engine(
    engine_is_started: asyncio.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(model: LocalModel) -> TextModel:
        return await model_loading.load_text(LocalModel(revision="r1", directory=tmp_path))

    monkeypatch.setattr(app, "load_text", read)
    service = build(SETTINGS, test_chassis(SETTINGS, InferenceService))
    async with asyncio.timeout(5):
        with pytest.raises(BackendDown, match=r"tokenizer\.json"):
            await service.start()
        assert not service.is_ready
        await service.close()
