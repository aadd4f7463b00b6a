"""Rules of a request in progress: order of events, joining, stop strings, several answers, abort, drain."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from meshkit.clock import Clock, SystemClock
from meshkit.coalescing import Piece
from meshkit.errors import BackendDown, Conflict, NotReady
from meshkit.telemetry import names
from meshkit.testing import FakeClock
from services.inference.echo_engine import EchoEngine
from services.inference.engine_port import SequenceEvent, SequenceSpec, SequenceStream
from services.inference.generation import Ended, Started
from services.inference.metrics import EngineCollector
from services.inference.model_host import ModelHost
from services.inference.requests import GenerationRequest, OutputWish, Prompt, SamplingWish, StoppingWish
from services.inference.settings import StreamSettings
from services.inference.text import byte_text_model
from tests.support.inference_engines import echo


@pytest.fixture(autouse=True)
async def bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(20):
        yield


async def host_of(engine: EchoEngine, clock: Clock | None = None) -> ModelHost:
    host = ModelHost(name="m", clock=clock or SystemClock(), stream=StreamSettings(flush_interval_s=0.005))
    host.run_on(engine, "r1")
    host.read_with(byte_text_model())
    await engine.start()
    return host


def ask(text: str, **fields: Any) -> GenerationRequest:
    return GenerationRequest(prompt=Prompt(text=text), **fields)


async def collect(host: ModelHost, request: GenerationRequest) -> tuple[Started, list[Piece], Ended]:
    events = [event async for event in host.generate(request, SystemClock().now())]
    started, *pieces, ended = events
    assert isinstance(started, Started) and isinstance(ended, Ended)
    return started, [piece for piece in pieces if isinstance(piece, Piece)], ended


def text_of(pieces: list[Piece], index: int = 0) -> str:
    return "".join(piece.text for piece in pieces if piece.index == index)


async def endless(host: ModelHost, request_id: str = "a") -> Any:
    stopping = StoppingWish(max_tokens=4000, ignore_eos=True)
    events = host.generate(ask("x", request_id=request_id, stopping=stopping), SystemClock().now())
    assert isinstance(await anext(events), Started)
    assert isinstance(await anext(events), Piece)
    return events


async def test_answer_comes_as_started_pieces_ended() -> None:
    started, pieces, ended = await collect(await host_of(echo()), ask("hello wörld 👍"))
    assert started.prompt_token_count == 17
    assert text_of(pieces) == "hello wörld 👍"
    assert sum(piece.token_count for piece in pieces) == 17
    assert (ended.finish_reason, ended.completion_token_count, ended.stop_matched) == ("stop", 18, "<end>")
    assert 0 < ended.first_token_s <= ended.total_s


async def test_tenants_share_no_prefix_and_all_answers_of_a_request_do() -> None:
    host, prompt = await host_of(echo()), "x" * 40
    cached = []
    for tenant in ("ada", "bob", "ada"):
        events = [event async for event in host.generate(ask(prompt), SystemClock().now(), tenant=tenant)]
        assert isinstance(events[-1], Ended)
        cached.append(events[-1].cached_prompt_token_count)
    assert cached == [0, 0, 32]


async def test_first_token_is_sent_alone_and_close_ones_together() -> None:
    _, pieces, _ = await collect(await host_of(echo()), ask("x" * 100))
    assert pieces[0].token_count == 1
    assert len(pieces) < 30


async def test_length_is_the_reason_when_max_tokens_are_drawn() -> None:
    _, pieces, ended = await collect(await host_of(echo()), ask("abcdef", stopping=StoppingWish(max_tokens=3)))
    assert (text_of(pieces), ended.finish_reason, ended.completion_token_count) == ("abc", "length", 3)


async def test_stop_string_ends_the_answer_before_it() -> None:
    host = await host_of(echo())
    _, pieces, ended = await collect(host, ask("one two three", stopping=StoppingWish(stop=("two", "zzz"))))
    assert (text_of(pieces), ended.finish_reason, ended.stop_matched) == ("one ", "stop", "two")
    assert host.engine.load().load.running_count == 0


async def test_text_held_back_for_a_stop_string_comes_in_the_end() -> None:
    host = await host_of(echo())
    _, pieces, ended = await collect(host, ask("abcE", stopping=StoppingWish(stop=("END",))))
    assert (text_of(pieces), ended.finish_reason) == ("abcE", "stop")
    _, pieces, ended = await collect(host, ask("abcEN", stopping=StoppingWish(stop=("END",), max_tokens=5)))
    assert (text_of(pieces), ended.finish_reason) == ("abcEN", "length")


async def test_stop_strings_count_from_min_tokens_on() -> None:
    request = ask("a.b.c.", stopping=StoppingWish(stop=(".",), min_tokens=4))
    _, pieces, ended = await collect(await host_of(echo()), request)
    assert (text_of(pieces), ended.stop_matched) == ("a.b", ".")


async def test_ids_and_logprobs_come_when_asked_for() -> None:
    output = OutputWish(include_token_ids=True, logprobs=1, prompt_logprobs=0)
    started, pieces, _ = await collect(await host_of(echo()), ask("ab", output=output))
    assert [token_id for piece in pieces for token_id in piece.token_ids] == byte_text_model().encode(Prompt(text="ab"))
    scores: list[Any] = [score for piece in pieces for score in piece.logprobs]
    assert [score.drawn.text for score in scores] == ["a", "b"]
    assert [len(score.top) for score in scores] == [1, 1]
    assert [score.drawn.text for score in started.prompt_scores] == ["b"]


async def test_nothing_comes_unasked() -> None:
    started, pieces, _ = await collect(await host_of(echo()), ask("ab"))
    assert not started.prompt_scores
    assert not any(piece.token_ids or piece.logprobs for piece in pieces)


async def test_echo_repeats_the_prompt_before_the_answer() -> None:
    _, pieces, ended = await collect(await host_of(echo()), ask("ab", output=OutputWish(echo=True)))
    assert text_of(pieces) == "abab"
    assert ended.completion_token_count == 3


async def test_several_answers_are_told_apart_and_counted_together() -> None:
    request = ask("abc", sampling=SamplingWish(n=3))
    _, pieces, ended = await collect(await host_of(echo()), request)
    assert [text_of(pieces, index) for index in range(3)] == ["abc"] * 3
    assert (ended.prompt_token_count, ended.completion_token_count) == (3, 12)


async def test_aborted_request_ends_as_cancelled_with_its_usage() -> None:
    host = await host_of(echo(tokens_per_s=200))
    events = await endless(host)
    assert host.running.abort("a")
    *_, ended = [event async for event in events]
    assert isinstance(ended, Ended)
    assert ended.finish_reason == "cancelled" and ended.completion_token_count >= 1
    assert not host.running.abort("a")
    assert host.engine.load().load.running_count == 0


async def test_abandoned_stream_leaves_no_sequence_and_no_task() -> None:
    host = await host_of(echo(tokens_per_s=200))
    tasks_before = len(asyncio.all_tasks())
    streams = [await endless(host, f"r{number}") for number in range(5)]
    assert host.engine.load().load.running_count == 5
    for stream in streams:
        await stream.aclose()
    assert host.engine.load().load.running_count == 0
    assert len(host.running) == 0
    assert len(asyncio.all_tasks()) == tasks_before


async def test_cancelled_reader_leaves_no_sequence() -> None:
    host = await host_of(echo(tokens_per_s=200))

    async def read() -> None:
        async for _ in await endless(host):
            pass

    reading = asyncio.create_task(read())
    while not host.engine.load().load.running_count:
        await host.engine.load_changed()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert host.engine.load().load.running_count == 0


async def test_id_that_runs_already_is_a_conflict() -> None:
    host = await host_of(echo(tokens_per_s=200))
    events = await endless(host)
    with pytest.raises(Conflict):
        await collect(host, ask("x", request_id="a"))
    await events.aclose()
    await collect(host, ask("x", request_id="a"))


async def test_drain_takes_nothing_new_and_waits_for_what_runs() -> None:
    host = await host_of(echo(tokens_per_s=200))
    events = await endless(host)
    draining = asyncio.create_task(host.running.drain())
    await asyncio.sleep(0)
    with pytest.raises(NotReady):
        await collect(host, ask("x"))
    assert not draining.done()
    await events.aclose()
    assert await draining == 0


async def test_drain_gives_up_what_runs_after_its_timeout() -> None:
    host = await host_of(echo(tokens_per_s=200))
    events = await endless(host)

    async def read() -> None:
        async for _ in events:
            pass

    reading = asyncio.create_task(read())
    assert await host.running.drain(timeout_s=0.02) == 1
    with pytest.raises(NotReady, match="draining"):
        await reading


class EngineThatDies(EchoEngine):
    """Breaks every stream after this many tokens."""

    lifetime_tokens = 3

    def open(self, spec: SequenceSpec) -> SequenceStream:
        return StreamThatBreaks(super().open(spec), self.lifetime_tokens)


class StreamThatBreaks:
    def __init__(self, stream: SequenceStream, token_count: int) -> None:
        self._stream, self._left = stream, token_count

    async def next_event(self) -> SequenceEvent:
        if self._left == 0:
            raise BackendDown("the engine stopped")
        self._left -= 1
        return await self._stream.next_event()

    def close(self) -> None:
        self._stream.close()


@pytest.mark.parametrize("answer_count", [1, 2])
async def test_a_stream_that_breaks_says_how_many_tokens_were_sent(answer_count: int) -> None:
    engine = EngineThatDies(SystemClock(), vocabulary_size=257, eos_token_id=256, tokens_per_s=500.0)
    host = await host_of(engine)
    request, sent = ask("hello", sampling=SamplingWish(n=answer_count)), 0
    with pytest.raises(BackendDown, match=r"the engine stopped; \d+ tokens had been sent") as broken:
        async for event in host.generate(request, SystemClock().now()):
            sent += event.token_count if isinstance(event, Piece) else 0
    assert broken.value.sent_token_count == sent
    assert engine.load().load.running_count == 0


async def test_scraped_load_is_the_engines_and_empty_before_there_is_one() -> None:
    empty = ModelHost(name="m", clock=SystemClock(), stream=StreamSettings())
    assert not list(EngineCollector(empty).collect())
    host = await host_of(echo(tokens_per_s=200))
    events = await endless(host)
    found = {family.name: family.samples[0].value for family in EngineCollector(host).collect()}
    assert (found[names.METRIC_ENGINE_READY], found[names.METRIC_ENGINE_RUNNING]) == (1.0, 1.0)
    await events.aclose()


async def test_scraped_prompt_tokens_are_told_apart_by_whether_they_were_found() -> None:
    host = await host_of(echo())
    for _ in range(2):
        await collect(host, ask("x" * 40))
    found = {sample.name: sample.value for family in EngineCollector(host).collect() for sample in family.samples}
    assert (found[names.METRIC_ENGINE_PROMPT_TOKENS], found[names.METRIC_ENGINE_CACHED_TOKENS]) == (80.0, 32.0)


async def test_engine_is_told_how_much_time_is_left() -> None:
    class Recording(EchoEngine):
        specs: ClassVar[list[SequenceSpec]] = []

        def open(self, spec: SequenceSpec) -> SequenceStream:
            self.specs.append(spec)
            return super().open(spec)

    clock = FakeClock()
    host = await host_of(Recording(clock, vocabulary_size=257, eos_token_id=256), clock)
    for deadline_at, wish_s in ((clock.now() + 2.5, 0.75), (None, None)):
        async for _ in host.generate(ask("x", ttft_slo_s=wish_s), clock.now() - 0.25, deadline_at=deadline_at):
            pass
    assert [(spec.deadline_s, spec.ttft_slo_s) for spec in Recording.specs] == [(2.5, 0.5), (None, None)]


async def test_nothing_is_served_before_the_model_is_loaded() -> None:
    host = ModelHost(name="m", clock=SystemClock(), stream=StreamSettings())
    with pytest.raises(NotReady):
        await collect(host, ask("x"))
