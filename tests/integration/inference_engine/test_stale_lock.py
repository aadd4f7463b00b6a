"""What a rank that was killed while it loaded the all-reduce leaves behind, and the next one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from services.inference.engine.messages import Fatal
from services.inference.engine.options import EngineOptions, as_arguments
from services.inference.engine.plan import FromRank, Join, Room, ToRank
from services.inference.engine.transport import BlockingChannel
from tests.support.engine_process import CACHE_DIR, PATIENCE_S, ROOT
from tests.support.tiny_model import make_tiny_model

LOCK = CACHE_DIR / "torch_extensions" / "deepspeed_shm_comm" / "lock"


def test_rank_over_0_is_not_held_up_by_a_lock_whose_holder_is_gone(tmp_path: Path) -> None:
    """The test is rank 0, up to where the two would meet."""
    ours, theirs = socket.socketpair()
    meeting = tmp_path / "meet"
    options = EngineOptions(
        fd=theirs.fileno(),
        model_dir=make_tiny_model(tmp_path / "model"),
        tensor_parallel_size=2,
        threads=1,
        kv_tokens=2048,
        cache_dir=CACHE_DIR,
        rank=1,
        rendezvous=str(meeting),
        parent_pid=os.getpid(),
    )
    command = [sys.executable, "-m", "services.inference.engine", *as_arguments(options)]
    process = subprocess.Popen(command, pass_fds=[options.fd], cwd=ROOT, stdin=subprocess.DEVNULL)
    theirs.close()
    channel = BlockingChannel[ToRank, FromRank | Fatal](ours, FromRank | Fatal)
    try:
        assert isinstance(channel.read(), Room)
        LOCK.parent.mkdir(parents=True, exist_ok=True)
        LOCK.touch()
        channel.write(Join(all_reduce="shm", kv_tokens=2048, context_tokens=512))
        until = time.monotonic() + PATIENCE_S
        while not meeting.exists():
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.05)
    finally:
        channel.close()
        process.kill()
        process.wait(PATIENCE_S)
    assert not LOCK.exists()
