"""Rules that every Engine keeps: the double in this process, and the client of an engine process."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshkit.errors import NotReady, Overloaded, QuotaExceeded
from services.inference.byte_tokenizer import END_TOKEN_ID
from services.inference.echo_cache import MOST_BLOCKS
from services.inference.echo_engine import EchoEngine
from services.inference.engine_client import EngineClient
from services.inference.engine_port import Engine
from services.inference.pinned_prefixes import Prefix
from tests.support.fake_engine import KV_TOKENS
from tests.support.inference_engines import MOST_SEQUENCES, drain, echo, fake_client, spec

CACHE_TOKENS: dict[type, int] = {EchoEngine: MOST_BLOCKS * 16, EngineClient: KV_TOKENS}


@pytest.fixture(params=["echo", "process"])
def engine_not_started(request: pytest.FixtureRequest) -> Engine:
    return echo(tokens_per_s=500) if request.param == "echo" else fake_client()


@pytest.fixture
async def engine(engine_not_started: Engine) -> AsyncIterator[Engine]:
    async with asyncio.timeout(30):
        await engine_not_started.start()
        yield engine_not_started
        await engine_not_started.close()


async def test_engine_that_has_not_started_takes_no_sequence(engine_not_started: Engine) -> None:
    assert not engine_not_started.is_ready
    assert engine_not_started.facts is None
    with pytest.raises(NotReady):
        engine_not_started.open(spec(5))


async def test_facts_are_known_once_ready(engine: Engine) -> None:
    assert engine.is_ready
    assert engine.facts is not None and engine.facts.context_tokens == 4096
    assert engine.load().generation == 1


async def test_sequence_ends_with_its_stop_token(engine: Engine) -> None:
    assert await drain(engine.open(spec(5, 6, 7))) == ([5, 6, 7, END_TOKEN_ID], "stop")


async def test_sequence_ends_with_its_last_token(engine: Engine) -> None:
    assert await drain(engine.open(spec(5, 6, max_tokens=5, ends=False))) == ([5, 6, 5, 6, 5], "length")


async def test_sequences_run_side_by_side(engine: Engine) -> None:
    streams = [engine.open(spec(10 + number, 20)) for number in range(4)]
    ended = await asyncio.gather(*(drain(stream) for stream in streams))
    assert [ids for ids, _ in ended] == [[10 + number, 20, END_TOKEN_ID] for number in range(4)]


async def test_logprobs_come_with_the_token_when_asked_for(engine: Engine) -> None:
    event = await engine.open(spec(5, logprobs=1)).next_event()
    assert event.logprob is not None and len(event.top) == 1  # type: ignore[union-attr]


async def test_too_many_sequences_are_refused_with_a_time_to_wait(engine: Engine) -> None:
    streams = [engine.open(spec(5, ends=False, max_tokens=4000)) for _ in range(MOST_SEQUENCES)]
    with pytest.raises(Overloaded) as refusal:
        engine.open(spec(5))
    assert refusal.value.retry_after_s > 0
    streams[0].close()
    assert await drain(engine.open(spec(5))) == ([5, END_TOKEN_ID], "stop")


async def test_closed_sequences_leave_nothing_running(engine: Engine) -> None:
    streams = [engine.open(spec(5, ends=False, max_tokens=4000)) for _ in range(MOST_SEQUENCES)]
    await asyncio.gather(*(stream.next_event() for stream in streams))
    for stream in streams:
        stream.close()
        stream.close()
    while engine.load().load.running_count:
        await engine.load_changed()


async def test_blocks_of_a_prompt_are_told_and_flushed(engine: Engine) -> None:
    assert [event.block_hashes for event in engine.kv_events.after(None)] == [()]
    await drain(engine.open(spec(*range(10, 26), 7)))
    (snapshot,) = engine.kv_events.after(None)
    assert len(snapshot.block_hashes) == 1
    assert await engine.flush_cache() == 1
    (evicted,) = engine.kv_events.after(snapshot.number)
    assert (evicted.kind, evicted.block_hashes) == ("evicted", snapshot.block_hashes)


async def test_engine_that_does_not_run_flushes_nothing(engine: Engine) -> None:
    await engine.close()
    with pytest.raises(NotReady):
        await engine.flush_cache()


def prefix(token_count: int, tenant: str = "ada", first: int = 0) -> Prefix:
    return Prefix(cache_salt=tenant, token_ids=tuple((first + i) % 256 for i in range(token_count)))


async def test_prefix_is_kept_once_however_often_it_is_asked_for_and_let_go_without_error(engine: Engine) -> None:
    for _ in range(20):
        await engine.pin_prefix(prefix(96), is_pinned=True)
    for _ in range(2):
        await engine.pin_prefix(prefix(96), is_pinned=False)


async def test_tenant_that_would_keep_over_a_quarter_of_the_cache_is_refused(engine: Engine) -> None:
    quarter = CACHE_TOKENS[type(engine)] // 4
    await engine.pin_prefix(prefix(quarter - 16), is_pinned=True)
    with pytest.raises(QuotaExceeded):
        await engine.pin_prefix(prefix(32, first=1), is_pinned=True)
    await engine.pin_prefix(prefix(16, first=1), is_pinned=True)
    await engine.pin_prefix(prefix(quarter - 16), is_pinned=False)
    await engine.pin_prefix(prefix(32, first=2), is_pinned=True)


async def test_tenants_that_would_keep_over_half_of_the_cache_together_are_refused(engine: Engine) -> None:
    quarter = CACHE_TOKENS[type(engine)] // 4
    for tenant in ("ada", "bob"):
        await engine.pin_prefix(prefix(quarter, tenant), is_pinned=True)
    for _ in range(2):
        with pytest.raises(Overloaded):
            await engine.pin_prefix(prefix(16, "eve"), is_pinned=True)
    await engine.pin_prefix(prefix(quarter, "bob"), is_pinned=False)
    await engine.pin_prefix(prefix(16, "eve"), is_pinned=True)


async def test_engine_that_does_not_run_keeps_nothing(engine: Engine) -> None:
    await engine.close()
    with pytest.raises(NotReady):
        await engine.pin_prefix(prefix(16), is_pinned=True)


async def test_closed_engine_is_not_ready(engine: Engine) -> None:
    await engine.close()
    assert not engine.is_ready
