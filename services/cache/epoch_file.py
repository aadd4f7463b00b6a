"""What an instance remembers of rules beside its disk tier: one small file, replaced as a whole.

Two processes may meet at it, such as while one takes over from another: what is saved is what both know.

A file that can't be read means that rules were forgotten while entries were not: `Damaged`, and nothing from before
may be believed any more.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from meshkit.telemetry import names
from meshkit.telemetry.logs import get_logger
from services.cache.epochs import Epochs, Rule, rule_about

_MAGIC = b"MCR\x01"
_CHECKSUM_BYTES = 16
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a process knew. `unshared` are those of its rules that the other instances had not been told."""

    rules: tuple[Rule, ...] = ()
    unshared: tuple[Rule, ...] = ()
    heard_wall: float = 0.0
    """When the shared memory last answered, in Unix seconds."""
    nothing_before: float = 0.0
    """Entries that were stored before this are not believed, in Unix seconds."""


class Damaged(Exception):
    """The file is there and can't be read."""


class _Body(msgspec.Struct, array_like=True):
    rules: list[tuple[bytes, int]]
    unshared: list[tuple[bytes, int]]
    heard_wall: float
    nothing_before: float


class EpochFile:
    """Reads and writes off the event loop."""

    def __init__(self, path: Path, *, max_rules: int) -> None:
        self._path = path
        self._max_rules = max_rules
        self._writing = asyncio.Lock()

    async def load(self) -> Remembered:
        """What was saved last; nothing where there is no file yet. Raises Damaged."""
        return await asyncio.to_thread(self._load)

    async def save(self, remembered: Remembered) -> Remembered | None:
        """What is on disk now: this and what another process had put there. None where it can't be written."""
        async with self._writing:
            try:
                return await asyncio.to_thread(self._save, remembered)
            except OSError as problem:
                _log.error(names.LOG_CACHE_EPOCHS_NOT_KEPT, error=type(problem).__name__, errno=problem.errno)
                return None

    def _load(self) -> Remembered:
        try:
            return _decoded(self._path.read_bytes())
        except FileNotFoundError:
            return Remembered()
        except (OSError, ValueError, msgspec.DecodeError) as problem:
            _log.error(names.LOG_CACHE_EPOCHS_DAMAGED, path=str(self._path), error=type(problem).__name__)
            raise Damaged(str(self._path)) from problem

    def _save(self, remembered: Remembered) -> Remembered:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            both = self._with_what_is_there(remembered)
            scratch = self._path.with_suffix(".new")
            with scratch.open("wb") as file:
                file.write(_encoded(both))
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._path)
            os.fsync(directory)
        finally:
            os.close(directory)
        return both

    def _with_what_is_there(self, remembered: Remembered) -> Remembered:
        try:
            there = self._load()
        except Damaged:
            return remembered
        epochs = Epochs(max_rules=self._max_rules)
        for rule in (*remembered.rules, *there.rules):
            epochs.add(rule)
        return replace(
            remembered,
            rules=tuple(epochs.rules()),
            nothing_before=max(remembered.nothing_before, there.nothing_before),
        )


def _encoded(remembered: Remembered) -> bytes:
    body = msgspec.msgpack.encode(
        _Body(
            rules=[(rule.subject, rule.number) for rule in remembered.rules],
            unshared=[(rule.subject, rule.number) for rule in remembered.unshared],
            heard_wall=remembered.heard_wall,
            nothing_before=remembered.nothing_before,
        )
    )
    return _MAGIC + _checksum(body) + body


def _decoded(data: bytes) -> Remembered:
    body_at = len(_MAGIC) + _CHECKSUM_BYTES
    if data[: len(_MAGIC)] != _MAGIC or data[len(_MAGIC) : body_at] != _checksum(data[body_at:]):
        raise ValueError("another format or a wrong checksum")
    body = msgspec.msgpack.decode(data[body_at:], type=_Body)
    return Remembered(
        rules=tuple(rule_about(subject, number) for subject, number in body.rules),
        unshared=tuple(rule_about(subject, number) for subject, number in body.unshared),
        heard_wall=body.heard_wall,
        nothing_before=body.nothing_before,
    )


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest()
