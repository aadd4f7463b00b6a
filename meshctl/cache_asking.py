"""Asks one cache instance on behalf of an operator; errors become sentences that say what to do."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc

from mesh.cache.v1 import cache_service_pb2 as pb
from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from meshctl.cache_file import DamagedFile, EntryWriter, read_entries
from meshctl.failure import CommandFailed, ExitCode
from meshctl.progress import Progress, Step
from meshkit.channels import CLIENT_OPTIONS
from meshkit.errors import BackendDown, MeshError, NotReady
from meshkit.identity import TENANT_KEY
from meshkit.status import from_rpc_error

QUICK_S = 10.0
SWEEP_S = 300.0
"""For what looks at every entry."""
IMPORT_ENTRIES = 64
IMPORT_BYTES = 256 * 1024


class Cache:
    """One instance, asked as one tenant."""

    def __init__(self, channel: grpc.aio.Channel, address: str, tenant: str) -> None:
        self._stub: Any = CacheServiceStub(channel)
        self._address = address
        self._metadata = ((TENANT_KEY, tenant),) if tenant else ()

    async def ask(self, method: str, request: Any, *, timeout_s: float = QUICK_S) -> Any:
        """One unary call. Raises CommandFailed."""
        with self._told():
            return await getattr(self._stub, method)(request, metadata=self._metadata, timeout=timeout_s)

    async def export(self, path: Path, progress: Progress) -> EntryWriter:
        """Write all entries to the file; what was written. Raises CommandFailed."""
        call = self._stub.Export(pb.ExportRequest(), metadata=self._metadata)
        try:
            with self._told(), _written(path), progress.step("exporting") as step, EntryWriter(path) as writer:
                async for part in call:
                    for entry in part.entries:
                        writer.add(entry.SerializeToString())
                    step.note(f"{_of(writer.count, part.expected_count)} entries, {megabytes(writer.size_bytes)}")
        finally:
            call.cancel()
        return writer

    async def warm(self, path: Path, progress: Progress, *, as_new: bool) -> pb.ImportResponse:
        """Take all entries of the file, after the whole file was checked. Raises CommandFailed."""
        total, taken, done = _checked(path, progress), pb.ImportResponse(), 0
        with progress.step("loading") as step:
            for request in _requests(path, as_new):
                try:
                    reply = await self.ask("Import", request, timeout_s=SWEEP_S)
                except CommandFailed as failure:
                    raise CommandFailed(
                        f"{failure}; {done} of {total} entries were sent: run it again, entries that are there already "
                        "are taken again without harm",
                        failure.exit_code,
                    ) from failure
                done += len(request.entries)
                for field in pb.ImportResponse.DESCRIPTOR.fields:
                    setattr(taken, field.name, getattr(taken, field.name) + getattr(reply, field.name))
                step.note(f"{_of(done, total)} entries")
        return taken

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except grpc.aio.AioRpcError as problem:
            error = from_rpc_error(problem, f"the cache at {self._address}")
            if isinstance(error, BackendDown | NotReady):
                hint = "`meshctl status` shows what runs, --cache names another instance"
                raise CommandFailed(f"{error}: {hint}", ExitCode.UNREACHABLE) from error
            raise CommandFailed(_sentence(error)) from error


@contextlib.asynccontextmanager
async def cache_at(address: str, tenant: str) -> AsyncIterator[Cache]:
    """A cache instance by `host:port`. `tenant` is a claim; the cache believes it where it believes forwarded ones."""
    async with grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS) as channel:
        yield Cache(channel, address, tenant)


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


def _sentence(error: MeshError) -> str:
    return f"{error} ({error.reason})"


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,}" if total else f"{count:,}"


def _checked(path: Path, progress: Progress) -> int:
    with progress.step("checking the file") as step:
        try:
            return _count(path, step)
        except DamagedFile as problem:
            raise CommandFailed(f"{path} can't be loaded: {problem}; nothing was loaded, export it again") from problem
        except OSError as problem:
            raise CommandFailed(f"{path} can't be read: {problem.strerror}") from problem


def _count(path: Path, step: Step) -> int:
    count = 0
    for count, _ in enumerate(read_entries(path), 1):
        if count % 1000 == 0:
            step.note(f"{count:,} entries")
    return count


def _requests(path: Path, as_new: bool) -> Iterator[pb.ImportRequest]:
    request, size_bytes = pb.ImportRequest(as_new=as_new), 0
    for payload in read_entries(path):
        request.entries.append(pb.ExportedEntry.FromString(payload))
        size_bytes += len(payload)
        if len(request.entries) >= IMPORT_ENTRIES or size_bytes >= IMPORT_BYTES:
            yield request
            request, size_bytes = pb.ImportRequest(as_new=as_new), 0
    if request.entries:
        yield request


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise CommandFailed(f"{path} can't be written: {problem.strerror}; nothing is left of it") from problem
