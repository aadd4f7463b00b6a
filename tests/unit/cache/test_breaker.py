"""The breaker of a tier: open at the start and after failures, closed by a probe and by nothing else."""

import asyncio

from meshkit.testing.clock import FakeClock
from services.cache.breaker import Breaker, keep_probing
from services.cache.settings import FarTierSettings


class Server:
    def __init__(self) -> None:
        self.is_up = False
        self.probe_count = 0

    async def probe(self) -> bool:
        self.probe_count += 1
        return self.is_up


def start(server: Server, clock: FakeClock) -> tuple[Breaker, asyncio.Task[None]]:
    breaker = Breaker(failure_limit=3)
    return breaker, asyncio.create_task(
        keep_probing(breaker, server.probe, clock=clock, settings=FarTierSettings(first_rest_s=1.0, longest_rest_s=4.0))
    )


async def test_it_starts_open_and_the_first_answered_probe_closes_it():
    server, clock = Server(), FakeClock()
    breaker, probing = start(server, clock)
    assert breaker.is_open
    server.is_up = True
    await clock.advance(0)
    assert not breaker.is_open
    probing.cancel()


async def test_it_opens_after_failures_in_a_row_only():
    breaker = Breaker(failure_limit=3)
    breaker.close()
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert not breaker.is_open
    for _ in range(3):
        breaker.failed()
    assert breaker.is_open


async def test_a_late_success_does_not_close_it():
    breaker = Breaker(failure_limit=1)
    breaker.succeeded()
    assert breaker.is_open


async def test_probes_rest_longer_each_time_up_to_a_limit():
    server, clock = Server(), FakeClock()
    _, probing = start(server, clock)
    await clock.advance(0.5)
    counts = [server.probe_count]
    for seconds in (1, 2, 4, 4, 4):
        await clock.advance(seconds)
        counts.append(server.probe_count)
    assert counts == [1, 2, 3, 4, 5, 6]
    probing.cancel()


async def test_one_probe_and_no_more_meets_a_server_that_returns():
    server, clock = Server(), FakeClock()
    breaker, probing = start(server, clock)
    await clock.advance(0)
    server.is_up = True
    await clock.advance(60)
    assert server.probe_count == 2
    assert not breaker.is_open
    probing.cancel()
