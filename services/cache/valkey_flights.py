"""Flights on the shared server, so that all cache instances and so all routers share them.

Two keys a flight, in one slot of a cluster: a hash (flight, term, lease's end, finished or not, followed or not) and
the list of events. Each method is one script, so two instances never both think that they won. Times are the server's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import valkey.asyncio as valkey_client

from meshkit.clock import Clock
from services.cache.flight import FlightTimes, Joined, Lease, LostLease, Page, Phase, new_flight
from services.cache.settings import L2Settings
from services.cache.valkey_cluster import ask, servers_of

_PREFIX = b"mesh:flight:1:"
_LOST = -1
_CONNECTIONS = 8

_NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000) "
_IS_MINE = (
    "local s = redis.call('HMGET', KEYS[1], 'flight', 'term', 'final') "
    "if s[1] ~= ARGV[1] or s[2] ~= ARGV[2] or s[3] then return {{{lost}}} end "
)

# flight, ttl_ms, keep_ms, follows_finished -> leads, flight, term
_JOIN = f"""{_NOW}
local s = redis.call('HMGET', KEYS[1], 'flight', 'term', 'until', 'final', 'followed')
if s[1] then
  local lasts = tonumber(s[3]) > now
  if (s[4] and ARGV[4] == '1' and lasts) or (not s[4] and (lasts or s[5])) then
    redis.call('HSET', KEYS[1], 'followed', '1')
    return {{0, s[1], tonumber(s[2])}}
  end
end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'flight', ARGV[1], 'term', '1', 'until', now + ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {{1, ARGV[1], 1}}
"""
# flight, ttl_ms, keep_ms -> leads
_CLAIM = f"""{_NOW}
local s = redis.call('HMGET', KEYS[1], 'flight', 'until', 'final', 'followed')
if s[1] and (tonumber(s[2]) > now or (s[4] and not s[3])) then return {{0}} end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[1], 'flight', ARGV[1], 'term', '1', 'until', now + ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {{1}}
"""
# flight, term, ttl_ms, keep_ms, first, event... -> followed
_APPEND = f"""{_NOW}
{_IS_MINE.format(lost=_LOST)}
local known = redis.call('LLEN', KEYS[2]) - ARGV[5]
if known < 0 then return {{{_LOST}}} end
for i = 6 + known, #ARGV do redis.call('RPUSH', KEYS[2], ARGV[i]) end
redis.call('HSET', KEYS[1], 'until', now + ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {{redis.call('HEXISTS', KEYS[1], 'followed')}}
"""
# flight, term, linger_ms, final
_FINISH = f"""{_NOW}
{_IS_MINE.format(lost=_LOST)}
redis.call('HSET', KEYS[1], 'final', ARGV[4], 'until', now + ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {{1}}
"""
# flight, term
_RELEASE = f"""
{_IS_MINE.format(lost=_LOST)}
if redis.call('HEXISTS', KEYS[1], 'followed') == 1 then redis.call('HSET', KEYS[1], 'until', 0)
else redis.call('DEL', KEYS[1], KEYS[2]) end
return {{1}}
"""
# flight, term, ttl_ms, keep_ms -> new term
_TAKE_OVER = f"""{_NOW}
{_IS_MINE.format(lost=_LOST)}
if tonumber(redis.call('HGET', KEYS[1], 'until')) > now then return {{{_LOST}}} end
redis.call('HSET', KEYS[1], 'term', s[2] + 1, 'until', now + ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {{s[2] + 1}}
"""
# flight, from -> exists, term, is_vacant, has_final, final, events
_READ = f"""{_NOW}
local s = redis.call('HMGET', KEYS[1], 'flight', 'term', 'until', 'final')
if s[1] ~= ARGV[1] then return {{0}} end
local vacant = 0
if not s[4] and tonumber(s[3]) <= now then vacant = 1 end
local has_final = 0
if s[4] then has_final = 1 end
return {{1, tonumber(s[2]), vacant, has_final, s[4] or '', redis.call('LRANGE', KEYS[2], ARGV[2], -1)}}
"""


class ValkeyFlights:
    """A FlightStore on the servers of the second tier, over connections of its own. `watch` must run."""

    def __init__(self, settings: L2Settings, times: FlightTimes, clock: Clock) -> None:
        own = dataclasses.replace(settings, max_connections=_CONNECTIONS)
        self._servers = servers_of(own, clock)
        self._timeout_s = settings.write_timeout_s
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._ttl_ms, self._keep_ms = int(times.ttl_s * 1000), int(times.keep_s * 1000)
        self._linger_ms = int(times.linger_s * 1000)

    async def watch(self) -> None:
        await self._servers.watch()

    async def close(self) -> None:
        await self._servers.close()

    async def join(self, key: bytes, *, follows_finished: bool) -> Joined:
        leads, flight, term = await self._run(
            _JOIN, key, new_flight(), self._ttl_ms, self._keep_ms, int(follows_finished)
        )
        return Joined(lease=Lease(flight=flight, term=term), leads=bool(leads))

    async def claim(self, key: bytes) -> Lease | None:
        flight = new_flight()
        (leads,) = await self._run(_CLAIM, key, flight, self._ttl_ms, self._keep_ms)
        return Lease(flight=flight, term=1) if leads else None

    async def append(self, key: bytes, lease: Lease, first: int, events: tuple[bytes, ...]) -> bool:
        arguments = (lease.flight, lease.term, self._ttl_ms, self._keep_ms, first, *events)
        (is_followed,) = await self._run(_APPEND, key, *arguments)
        return bool(_unless_lost(is_followed))

    async def finish(self, key: bytes, lease: Lease, final: bytes) -> None:
        (done,) = await self._run(_FINISH, key, lease.flight, lease.term, self._linger_ms, final)
        _unless_lost(done)

    async def release(self, key: bytes, lease: Lease) -> None:
        await self._run(_RELEASE, key, lease.flight, lease.term)

    async def take_over(self, key: bytes, lease: Lease) -> Lease | None:
        (term,) = await self._run(_TAKE_OVER, key, lease.flight, lease.term, self._ttl_ms, self._keep_ms)
        return None if term == _LOST else Lease(flight=lease.flight, term=term)

    async def read(self, key: bytes, flight: bytes, from_event: int) -> Page:
        exists, *rest = await self._run(_READ, key, flight, from_event)
        if not exists:
            return Page(phase=Phase.GONE)
        term, is_vacant, has_final, final, events = rest
        phase = Phase.FINISHED if has_final else Phase.VACANT if is_vacant else Phase.LED
        return Page(phase=phase, term=term, events=tuple(events), final=final)

    async def _run(self, script: str, key: bytes, *arguments: Any) -> Sequence[Any]:
        """A command that lost its connection may still have been done; every caller can bear that."""
        slot = _PREFIX + b"{" + hashlib.blake2b(key, digest_size=16).hexdigest().encode() + b"}"

        def command(client: valkey_client.Valkey) -> Any:
            # Takes bytes and numbers, whatever its signature says.
            return client.eval(script, 2, slot, slot + b":log", *arguments)  # type: ignore[arg-type]

        async with self._turns:
            reply: Sequence[Any] = await ask(self._servers, slot, command, self._timeout_s)
        return reply


def _unless_lost(reply: int) -> int:
    if reply == _LOST:
        raise LostLease
    return reply
