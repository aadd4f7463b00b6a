import json
import os
import subprocess
import sys

import psutil
import pytest_asyncio

from meshkit.registry import Registration
from meshkit.registry.file import FileRegistry
from meshkit.testing import FakeClock

POLL_S = 0.3


@pytest_asyncio.fixture
async def clock():
    return FakeClock()


@pytest_asyncio.fixture
async def registry(tmp_path, clock):
    registry = FileRegistry(tmp_path / "registry", clock)
    yield registry
    await registry.close()


def registration(name: str) -> Registration:
    return Registration(id=name, service="mesh-cache", host="127.0.0.1", port=7, grpc_name="x", metadata={"model": "m"})


def write(tmp_path, name: str, **entry):
    folder = tmp_path / "registry"
    folder.mkdir(exist_ok=True)
    own = {"pid": os.getpid(), "started_at": psutil.Process().create_time()}
    text = json.dumps({"id": name, "address": "h:1", "metadata": {}, **own, **entry})
    (folder / f"mesh-cache--{name}.json").write_text(text)


def sleeping_process():
    return subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)


def ids(instances):
    return [instance.id for instance in instances.current]


async def test_an_instance_that_was_killed_disappears(tmp_path, clock, registry):
    process = sleeping_process()
    write(tmp_path, "stays")
    write(tmp_path, "killed", pid=process.pid, started_at=psutil.Process(process.pid).create_time())
    instances = registry.watch("mesh-cache")
    assert ids(instances) == ["killed", "stays"]
    process.kill()
    # Not yet reaped by its parent: a zombie serves nothing.
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    await clock.advance(POLL_S)
    assert ids(instances) == ["stays"]
    process.wait(5)
    process.stdin.close()


async def test_another_process_with_the_same_number_is_not_the_instance(tmp_path, clock, registry):
    write(tmp_path, "old", started_at=psutil.Process().create_time() - 1000)
    write(tmp_path, "new")
    assert ids(registry.watch("mesh-cache")) == ["new"]


async def test_files_that_make_no_sense_are_passed_over(tmp_path, clock, registry):
    write(tmp_path, "good")
    instances = registry.watch("mesh-cache")
    folder = tmp_path / "registry"
    for number, text in enumerate(
        ["", "[]", "7", '{"id": "x"}', '{"id":"x","address":"h:1","pid":"y","started_at":1}']
    ):
        (folder / f"mesh-cache--bad{number}.json").write_text(text)
    (folder / "mesh-cache--bytes.json").write_bytes(b"\xff")
    write(tmp_path, "late")
    await clock.advance(POLL_S)
    assert ids(instances) == ["good", "late"]


async def test_an_id_with_a_slash_is_no_path(tmp_path, registry):
    await registry.register(registration("../../outside"))
    assert ids(registry.watch("mesh-cache")) == ["../../outside"]
    assert [path.name for path in tmp_path.iterdir()] == ["registry"]
    await registry.deregister()
    assert list((tmp_path / "registry").iterdir()) == []
