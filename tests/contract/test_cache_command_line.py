"""`meshctl cache` against a real cache over gRPC: what an operator types, reads and is told."""

import asyncio
import contextlib
import json

import pytest

from mesh.cache.v1 import cache_service_pb2 as pb
from meshctl.__main__ import build_parser, main
from meshkit.testing.running import running_server
from services.cache.app import CacheService, build
from tests.contract.test_cache_contract import SETTINGS, a_lookup, an_answer, as_tenant


class Operator:
    """Types commands at a cache, as one tenant."""

    def __init__(self, address, capsys) -> None:
        self._address = address
        self._capsys = capsys

    async def types(self, *arguments, tenant="ann", code=0) -> str:
        """Standard output, or standard error where the command shall fail."""
        options = ["--cache", self._address, "--tenant", tenant]
        assert await asyncio.to_thread(main, ["cache", *arguments, *options]) == code
        shown = self._capsys.readouterr()
        return shown.err if code else shown.out


@contextlib.asynccontextmanager
async def cache(capsys):
    """An operator, and a stub for callers."""
    import grpc

    from mesh.cache.v1.cache_service_pb2_grpc import CacheServiceStub

    async with running_server(SETTINGS, build, CacheService) as address, grpc.aio.insecure_channel(address) as channel:
        yield Operator(address, capsys), CacheServiceStub(channel)


async def commit(stub, text, *, tenant="ann", tags=("faq",)) -> bytes:
    digest = (await stub.Lookup(a_lookup(text), metadata=as_tenant(tenant))).digest
    request = pb.CommitRequest(digest=digest, answer=an_answer(), tags=tags)
    assert (await stub.Commit(request, metadata=as_tenant(tenant))).stored
    return digest


async def has(stub, text, *, tenant="ann") -> bool:
    return (await stub.Lookup(a_lookup(text), metadata=as_tenant(tenant))).HasField("hit")


async def test_invalidate_counts_then_applies_with_a_reason_that_the_audit_shows(capsys):
    async with cache(capsys) as (operator, stub):
        await commit(stub, "one")
        counted = await operator.types("invalidate", "--tag", "faq")
        assert "would forget 1 entries" in counted
        assert "--apply --reason" in counted
        assert await has(stub, "one")
        assert "--reason" in await operator.types("invalidate", "--tag", "faq", "--apply", code=2)
        assert await has(stub, "one")
        applied = await operator.types("invalidate", "--tag", "faq", "--apply", "--reason", "the FAQ changed")
        assert "forgot 1 entries" in applied
        assert not await has(stub, "one")
        assert "the FAQ changed" in await operator.types("audit")
        assert "nothing was invalidated" in await operator.types("audit", tenant="bob")


async def test_each_selector_is_an_option(capsys):
    async with cache(capsys) as (operator, stub):
        digest = await commit(stub, "one")
        for selector in (["--all"], ["--revision", "r"], ["--tag", "faq"], ["--digest", digest[:3].hex()]):
            assert json.loads(await operator.types("invalidate", *selector, "--json"))["entry_count"] == "1"
        assert "hex digits" in await operator.types("invalidate", "--digest", "xyz", code=2)


async def test_a_bump_hides_everything_and_one_key_is_one_bump(capsys):
    async with cache(capsys) as (operator, stub):
        await commit(stub, "one")
        first = await operator.types("bump-epoch", "--reason", "new model", "--idempotency-key", "k")
        assert "every instance" in first
        assert not await has(stub, "one")
        assert await operator.types("bump-epoch", "--reason", "new model", "--idempotency-key", "k") == first


async def test_what_was_exported_warms_another_tenant_s_cache(capsys, tmp_path):
    async with cache(capsys) as (operator, stub):
        for number in range(150):
            await commit(stub, f"{number}")
        file = str(tmp_path / "answers.mcache")
        assert "150 entries" in await operator.types("export", file)
        assert "exists" in await operator.types("export", file, code=2)
        assert "150 entries loaded" in await operator.types("warm", file, tenant="bob")
        assert await has(stub, "149", tenant="bob")
        await operator.types("bump-epoch", "--reason", "x")
        assert "150 invalidated" in await operator.types("warm", file)
        assert not await has(stub, "149")
        assert "150 entries loaded" in await operator.types("warm", file, "--as-new")
        assert await has(stub, "149")


async def test_a_damaged_file_loads_nothing_and_says_what_to_do(capsys, tmp_path):
    async with cache(capsys) as (operator, stub):
        for number in range(3):
            await commit(stub, f"{number}")
        file = tmp_path / "answers.mcache"
        await operator.types("export", str(file))
        file.write_bytes(file.read_bytes()[:-3])
        told = await operator.types("warm", str(file), tenant="bob", code=1)
        assert "cut off after 3 entries; nothing was loaded, export it again" in told
        assert not await has(stub, "0", tenant="bob")
        assert "can't be read" in await operator.types("warm", str(tmp_path / "none"), code=1)
        assert "can't be written" in await operator.types("export", str(tmp_path / "none" / "f"), code=1)


async def test_stats_show_each_tier(capsys):
    async with cache(capsys) as (operator, stub):
        await commit(stub, "one")
        assert await has(stub, "one")
        header, row = (await operator.types("stats")).strip().split("\n")
        assert header.split()[:3] == ["tier", "look-ups", "hits"]
        assert row.split()[:4] == ["L1", "2", "1", "50.0%"]


@pytest.mark.parametrize("command", ["stats", "invalidate", "bump-epoch", "audit", "export", "warm"])
def test_each_command_s_help_has_examples_and_exit_codes(command, capsys):
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["cache", command, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert all(part in text for part in ("examples:", "exit codes:", "--json", "--tenant"))


@pytest.mark.parametrize(
    "arguments", [["stats"], ["export", "f"], ["bump-epoch", "--reason", "x"], ["invalidate", "--all"]]
)
def test_no_cache_is_told_in_one_line_with_what_to_do(arguments, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["cache", *arguments, "--cache", "127.0.0.1:1"]) == 4
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "meshctl status" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
