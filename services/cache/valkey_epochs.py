"""Rules kept on the server of the second tier, where all instances of the cache meet.

One sorted set holds all: a rule's subject with its number as the score, and at score 0 the name of the set's history.
What is lost is lost as a whole, then, and noticed by the missing name. Each step is one script, so it happens at once
or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from meshkit.clock import Clock
from services.cache.epochs import Rule, Selector, rule_about
from services.cache.settings import EpochSettings, L2Settings
from services.cache.shared_epochs import HISTORY_BYTES, ONCE_TTL_S, PAGE_RULES, Heard, Issued, Once
from services.cache.valkey_cluster import ask, servers_of

RULES = b"mesh:cache:epochs:{1}:rules"
_ONCE = b"mesh:cache:epochs:{1}:once:"
"""Of one slot, so that a script may use both in a cluster."""
_FINGERPRINT_BYTES = 16
_CONNECTIONS = 4

# ARGV: subject, least number, life of the idempotency key in ms (0: none), fingerprint, count of subjects to remove,
# those, then number and subject of each to add.
_ISSUE = """
local life = tonumber(ARGV[3])
if life > 0 then
  local before = redis.call('GET', KEYS[2])
  if before then return {0, before} end
end
local time = redis.call('TIME')
local number = time[1] * 1000 + math.floor(time[2] / 1000)
local top = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
number = math.max(number, tonumber(ARGV[2]), top[2] and tonumber(top[2]) + 1 or 0)
local removed = tonumber(ARGV[5])
for i = 6, 5 + removed do redis.call('ZREM', KEYS[1], ARGV[i]) end
for i = 6 + removed, #ARGV, 2 do redis.call('ZADD', KEYS[1], 'GT', ARGV[i], ARGV[i + 1]) end
local text = string.format('%.0f', number)
redis.call('ZADD', KEYS[1], text, ARGV[1])
if life > 0 then redis.call('SET', KEYS[2], ARGV[4] .. text .. ':', 'PX', life) end
return {1, text}
"""
_HEAR = """
return {
  redis.call('ZRANGEBYSCORE', KEYS[1], 0, 0),
  redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
}
"""
# ARGV: the name of another history, then number and subject of each rule.
_RESTORE = """
local changed = 0
for i = 2, #ARGV, 2 do changed = changed + redis.call('ZADD', KEYS[1], 'GT', 'CH', ARGV[i], ARGV[i + 1]) end
local history = redis.call('ZRANGEBYSCORE', KEYS[1], 0, 0)
if changed > 0 or not history[1] then
  for _, name in ipairs(history) do redis.call('ZREM', KEYS[1], name) end
  redis.call('ZADD', KEYS[1], 0, ARGV[1])
end
"""


class ValkeyEpochs:
    """The shared memory. `watch` must run for it to be asked at all."""

    def __init__(self, l2: L2Settings, settings: EpochSettings, clock: Clock) -> None:
        # Connections of its own, so that questions about rules never wait behind entries, and a server that is back is
        # noticed as soon as the bound needs.
        rest_s = settings.poll_s
        own = dataclasses.replace(l2, max_connections=_CONNECTIONS, first_rest_s=rest_s, longest_rest_s=rest_s)
        self._servers = servers_of(own, clock)
        self._timeout_s = settings.timeout_s

    async def watch(self) -> None:
        await self._servers.watch()

    async def issue(
        self,
        partition: bytes,
        selector: Selector,
        *,
        at_least: int,
        once: Once | None = None,
        replaced: Sequence[Rule] = (),
        by: Sequence[Rule] = (),
    ) -> Issued:
        subject = Rule(partition=partition, selector=selector, number=at_least).subject
        life_ms = int(ONCE_TTL_S * 1000) if once is not None else 0
        fingerprint = once.fingerprint if once is not None else b""
        gone = [rule.subject for rule in replaced]
        keys = [RULES, _once_key(once)]
        is_new, text = await self._run(
            _ISSUE, keys, [subject, at_least, life_ms, fingerprint, len(gone), *gone, *_pairs(by)]
        )
        return Issued(number=int(text)) if is_new else _issued_before(text)

    async def hear(self, number: int) -> Heard:
        history, flat = await self._run(_HEAR, [RULES], [max(number, 1), PAGE_RULES])
        rules = tuple(_readable(zip(flat[::2], flat[1::2], strict=True)))
        return Heard(rules=rules, history=history[0] if history else b"", is_all=len(flat) < 2 * PAGE_RULES)

    async def restore(self, rules: Sequence[Rule]) -> None:
        for start in range(0, max(len(rules), 1), PAGE_RULES):
            page = rules[start : start + PAGE_RULES]
            await self._run(_RESTORE, [RULES], [os.urandom(HISTORY_BYTES), *_pairs(page)])

    async def finish(self, once: Once, issued: Issued, outcome: bytes) -> None:
        value = once.fingerprint + b"%d:" % issued.number + outcome
        await self._call(lambda client: client.set(_once_key(once), value, px=int(ONCE_TTL_S * 1000), xx=True))

    async def close(self) -> None:
        await self._servers.close()

    async def _run(self, script: str, keys: Sequence[bytes], arguments: Sequence[Any]) -> Any:
        return await self._call(lambda client: client.eval(script, len(keys), *keys, *arguments))

    async def _call(self, command: Callable[[Any], Awaitable[Any]]) -> Any:
        return await ask(self._servers, RULES, command, self._timeout_s)


def _once_key(once: Once | None) -> bytes:
    return _ONCE + (once.key if once is not None else b"")


def _readable(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[Rule]:
    """What somebody else put into the set is no rule."""
    for subject, score in pairs:
        with contextlib.suppress(ValueError):
            yield rule_about(subject, int(float(score)))


def _pairs(rules: Sequence[Rule]) -> list[Any]:
    return [part for rule in rules for part in (rule.number, rule.subject)]


def _issued_before(value: bytes) -> Issued:
    number, _, outcome = value[_FINGERPRINT_BYTES:].partition(b":")
    return Issued(number=int(number), fingerprint=value[:_FINGERPRINT_BYTES], outcome=outcome, is_repeat=True)
