"""One model over two "hosts", two process trees here: exact, and a host that fails ends the engine soon and cleanly."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.inference.engine.messages import Fatal, Progress, Shutdown
from tests.integration.inference_engine.test_engine_process import (
    DRAWN,
    GONE_WITHIN_S,
    greedy,
    plain_greedy,
    requests,
    wait_for_token,
)
from tests.support.engine_node import SECRET, NodeUnderTest, revision_of
from tests.support.engine_process import EngineStopped, EngineUnderTest
from tests.support.free_port import free_port
from tests.support.tiny_model import Family, make_tiny_model

SEEN_WITHIN_S = 5.0


class TwoHosts:
    """Where they meet, and how each side is started."""

    def __init__(self, model_dir: Path, folder: Path) -> None:
        self.model_dir, self.folder = model_dir, folder
        self.rendezvous = f"127.0.0.1:{free_port()}"
        self.secret_file = folder / "secret"
        self.secret_file.write_text(SECRET)

    def engine(self, **changes: Any) -> EngineUnderTest:
        return EngineUnderTest(
            self.model_dir,
            tensor_parallel_size=changes.pop("size", 2),
            nodes=2,
            listen=self.rendezvous,
            secret_file=self.secret_file,
            **{"revision": revision_of(self.model_dir), **changes},
        )

    def node(self, environment: Mapping[str, str] | None = None, **settings: str) -> NodeUnderTest:
        return NodeUnderTest(self.model_dir, self.rendezvous, self.secret_file, environment, **settings)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("qwen2"))


@pytest.fixture
def hosts(checkpoint: Path, tmp_path: Path) -> TwoHosts:
    return TwoHosts(checkpoint, tmp_path)


@pytest.fixture
def pair(hosts: TwoHosts) -> Iterator[tuple[EngineUnderTest, NodeUnderTest]]:
    with hosts.node() as node, hosts.engine() as engine:
        yield engine, node


@pytest.mark.parametrize(("family", "size"), [("qwen2", 2), ("gemma3", 2), ("llama", 4)])
def test_greedy_output_over_two_hosts_equals_plain_generate_token_for_token(
    tmp_path: Path, family: Family, size: int
) -> None:
    hosts = TwoHosts(make_tiny_model(tmp_path / "model", family), tmp_path)
    with hosts.node(ENGINE__TENSOR_PARALLEL_SIZE=str(size)) as node, hosts.engine(size=size) as engine:
        ready = engine.ready()
        assert (ready.tensor_parallel_size, ready.all_reduce, len(ready.rank_pids)) == (size, "gloo", size // 2)
        assert any("node 1 joined from 127.0.0.1" in stage for stage in engine.stages)
        far_ranks = node.ranks()
        assert len(far_ranks) == size // 2
        assert engine.generate(requests()) == plain_greedy(hosts.model_dir)
        engine.channel.write(Shutdown())
        assert engine.process.wait(GONE_WITHIN_S) == 0
        assert psutil.wait_procs(far_ranks, GONE_WITHIN_S)[1] == []
        node.process.terminate()
        assert node.process.wait(GONE_WITHIN_S) == 0


def test_int8_over_two_hosts_measures_its_loss(hosts: TwoHosts) -> None:
    with (
        hosts.node(ENGINE__DTYPE="int8"),
        hosts.engine(quantization="int8", revision=f"{revision_of(hosts.model_dir)}-int8") as engine,
    ):
        ready = engine.ready()
        assert (ready.dtype, ready.path) == ("int8", "lean") and "against float32" in ready.quantisation_loss
        assert all(len(tokens) == DRAWN for tokens in engine.generate(requests()).values())


def test_host_that_can_not_take_the_fast_path_makes_all_run_the_stock_definition(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    with hosts.node({"PATH": str(tmp_path)}, MODEL__CACHE_DIR=str(tmp_path)) as node, hosts.engine() as engine:
        ready = engine.ready()
        assert ready.path == "stock: another rank can't take the fast path; the log of its host says why"
        assert "no C++ compiler was found" in node.log()
        assert engine.generate(requests()) == plain_greedy(hosts.model_dir)


def host_killed(node: NodeUnderTest) -> None:
    node.signal_tree(signal.SIGKILL)


def host_stopped(node: NodeUnderTest) -> None:
    node.signal_tree(signal.SIGSTOP)


def program_killed(node: NodeUnderTest) -> None:
    os.kill(node.process.pid, signal.SIGKILL)


def program_stopped(node: NodeUnderTest) -> None:
    os.kill(node.process.pid, signal.SIGSTOP)


def rank_killed(node: NodeUnderTest) -> None:
    node.ranks()[0].kill()


def rank_stopped(node: NodeUnderTest) -> None:
    node.ranks()[0].suspend()


@pytest.mark.parametrize(
    ("failure", "is_busy", "told"),
    [
        (host_killed, True, "closed its line"),
        (host_stopped, True, "said nothing for"),
        (host_stopped, False, "said nothing for"),
        (program_killed, True, "closed its line"),
        (program_stopped, True, "said nothing for"),
        (rank_killed, True, "rank 1 on node 1"),
        (rank_stopped, True, "has been stopped"),
        (rank_stopped, False, "has been stopped"),
    ],
)
def test_failure_of_the_other_host_is_seen_named_and_leaves_no_rank(
    pair: tuple[EngineUnderTest, NodeUnderTest], failure: Callable[[NodeUnderTest], None], is_busy: bool, told: str
) -> None:
    engine, node = pair
    engine.ready()
    far_ranks = node.ranks()
    if is_busy:
        engine.channel.write(greedy(1, [9, 10], 1500))
        wait_for_token(engine)
    began = time.monotonic()
    failure(node)
    fatal = last_word(engine)
    assert time.monotonic() - began <= SEEN_WITHIN_S
    assert "node 1 at 127.0.0.1" in fatal.problem and told in fatal.problem
    assert engine.process.wait(GONE_WITHIN_S) != 0
    node.signal_tree(signal.SIGCONT)  # a stopped host can clear up only once it goes on
    assert psutil.wait_procs(far_ranks, GONE_WITHIN_S)[1] == []


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
def test_ranks_of_the_other_host_never_outlive_node_0_and_it_joins_the_next_life(
    hosts: TwoHosts, way: signal.Signals
) -> None:
    with hosts.node() as node:
        with hosts.engine() as engine:
            engine.ready()
            far_ranks = node.ranks()
            engine.process.send_signal(way)
            assert psutil.wait_procs(far_ranks, SEEN_WITHIN_S + GONE_WITHIN_S)[1] == []
        with hosts.engine() as engine:
            engine.ready()
            assert engine.generate(requests()) == plain_greedy(hosts.model_dir)


def test_host_with_another_secret_is_turned_away_until_it_has_the_right_one(hosts: TwoHosts, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("f" * 32)
    with hosts.node(NODES__SECRET_FILE=str(wrong)) as node, hosts.engine() as engine:
        node.await_log("its secret is another one than that of node 0")
        wrong.write_text(SECRET)
        engine.ready()
    assert any("nodes.secret_file" in stage for stage in engine.stages)


def test_host_with_other_weights_is_turned_away_with_both_revisions(hosts: TwoHosts, tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", seed=1)
    with hosts.node(MODEL__SOURCE=str(other)) as node, hosts.engine() as engine:
        while not isinstance(event := engine.read(), Progress) or "turned away" not in event.stage:
            assert not isinstance(event, Fatal)
        assert node.process.wait(GONE_WITHIN_S) == 4
        for told in (node.log(), event.stage):
            assert revision_of(hosts.model_dir) in told and revision_of(other) in told and "model.source" in told


def last_word(engine: EngineUnderTest) -> Fatal:
    try:
        while not isinstance(event := engine.read(), Fatal):
            pass
    except EngineStopped as stopped:
        raise AssertionError("the engine ended without a word") from stopped
    return event
