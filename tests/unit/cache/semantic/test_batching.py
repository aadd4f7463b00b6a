"""How texts wait for their vectors: together, not too many, and never for ever."""

import asyncio
import contextlib
import threading

import pytest

from meshkit.embedding.minilm import TooLong, Unavailable
from services.cache.semantic.batching import BatchedEmbedder, TooManyWaiting
from tests.support.semantic import FakeModel


@contextlib.asynccontextmanager
async def running(model, **changes):
    limits = {"window_s": 0.0, "max_batch": 16, "max_waiting": 64, **changes}
    embedder = BatchedEmbedder(model, **limits)
    task = asyncio.create_task(embedder.run())
    try:
        yield embedder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class HeldModel(FakeModel):
    """Embeds only when let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()
        self.is_embedding = False

    def embed(self, texts):
        self.is_embedding = True
        self.let.wait(10)
        return super().embed(texts)


async def test_texts_that_come_together_are_embedded_together():
    model = FakeModel()
    async with running(model, max_batch=4) as embedder:
        await asyncio.gather(*(embedder.embed(f"{number}") for number in range(8)))
    assert [len(batch) for batch in model.batches] == [4, 4]


async def test_each_caller_gets_the_vector_of_its_own_text():
    model = FakeModel({"a": 0.0, "b": 1.0})
    async with running(model) as embedder:
        a, b = await asyncio.gather(embedder.embed("a"), embedder.embed("b"))
    assert float(a[0]) == pytest.approx(1.0)
    assert float(b[1]) == pytest.approx(0.8415, abs=1e-3)


async def test_one_text_that_is_too_long_spoils_no_other():
    async with running(FakeModel()) as embedder:
        results = await asyncio.gather(embedder.embed("x" * 600), embedder.embed("short"), return_exceptions=True)
    assert isinstance(results[0], TooLong)
    assert not isinstance(results[1], Exception)


async def test_a_model_that_is_missing_is_told_to_every_caller_and_asked_again_later():
    model = FakeModel()
    model.problem = "the package x is not installed"
    async with running(model) as embedder:
        with pytest.raises(Unavailable, match="package x"):
            await embedder.embed("a")
        model.problem = ""
        await embedder.embed("a")


async def test_a_caller_beyond_the_limit_is_told_at_once():
    model = HeldModel()
    async with running(model, max_waiting=3, max_batch=1) as embedder:
        waiting = [asyncio.create_task(embedder.embed("first"))]
        while not model.is_embedding:
            await asyncio.sleep(0)
        waiting += [asyncio.create_task(embedder.embed(f"{number}")) for number in range(3)]
        while embedder.waiting_count < 3:
            await asyncio.sleep(0)
        with pytest.raises(TooManyWaiting):
            await embedder.embed("one more")
        model.let.set()
        await asyncio.gather(*waiting)


async def test_a_text_whose_caller_left_is_not_embedded():
    model = HeldModel()
    async with running(model, max_batch=1) as embedder:
        first = asyncio.create_task(embedder.embed("first"))
        while not model.is_embedding:
            await asyncio.sleep(0)
        left = asyncio.create_task(embedder.embed("left"))
        while embedder.waiting_count < 1:
            await asyncio.sleep(0)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        model.let.set()
        await first
        await embedder.embed("last")
    assert ["left"] not in model.batches


async def test_stopping_leaves_no_caller_waiting():
    model = HeldModel()
    async with running(model, max_batch=1) as embedder:
        waiting = [asyncio.create_task(embedder.embed(f"{number}")) for number in range(3)]
        while embedder.waiting_count < 2:
            await asyncio.sleep(0)
    model.let.set()
    async with asyncio.timeout(5):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
