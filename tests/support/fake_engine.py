"""An engine process without a model: `python -m tests.support.fake_engine FD [START]`. It echoes, and fails when told.

START is `ready`, `fatal` (says Fatal), `dies` (exits before Ready), `never` (never becomes ready), `stops` (itself
before Ready) or `stops rank 1`. A prompt whose first token is one of the constants makes it fail in that way. Rank 1 is
an idle process that tests may kill. Each first token of a prompt is a block of its prefix cache.
"""

import os
import signal
import socket
import subprocess
import sys
import time

from services.inference.byte_tokenizer import END_TOKEN_ID
from services.inference.echo_engine import echo_scores, echo_token
from services.inference.engine.messages import (
    Abort,
    AddSequence,
    CacheChanged,
    Fatal,
    FlushCache,
    Flushed,
    FromEngine,
    Heartbeat,
    Load,
    PinPrefix,
    PrefixPinned,
    Progress,
    Ready,
    SequenceFailed,
    Shutdown,
    StepDone,
    ToEngine,
)
from services.inference.engine.transport import BlockingChannel, EndOfStream

DIE, HANG, REFUSE, STOP_ITSELF, GIVE_UP = 1, 2, 3, 4, 6
STEP_S = 0.002
HEARTBEAT_S = 0.5
KV_TOKENS = 4096

Channel = BlockingChannel[FromEngine, ToEngine]


class FakeEngine:
    """Draws one token a step for each sequence."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._running: dict[int, AddSequence] = {}
        self._drawn: dict[int, int] = {}
        self._stored: set[int] = set()
        self._pinned_count = 0

    def run(self) -> None:
        while True:
            while self._channel.is_readable(STEP_S if self._running else HEARTBEAT_S):
                if not self._take(self._channel.read()):
                    return
            if self._running:
                self._step()
            else:
                self._channel.write(Heartbeat(step_count=0))

    def _take(self, message: ToEngine) -> bool:
        if isinstance(message, AddSequence):
            self._add(message)
        elif isinstance(message, Abort):
            self._running.pop(message.sequence_id, None)
            self._channel.write(StepDone(tokens=[], load=self._load()))
        elif isinstance(message, FlushCache):
            self._flush(message)
        elif isinstance(message, PinPrefix):
            self._pin(message)
        return not isinstance(message, Shutdown)

    def _add(self, message: AddSequence) -> None:
        first = message.prompt_ids[0]
        if first == DIE:
            os._exit(9)
        if first == GIVE_UP:
            self._channel.write(Fatal(problem="memory ran out", advice="Lower something."))
            os._exit(9)
        if first == HANG:
            time.sleep(3600)
        if first == STOP_ITSELF:
            os.kill(os.getpid(), signal.SIGSTOP)
        if first == REFUSE:
            self._channel.write(SequenceFailed(sequence_id=message.sequence_id, problem="as told"))
            return
        if message.prompt_ids[0] not in self._stored:
            self._stored.add(message.prompt_ids[0])
            self._channel.write(CacheChanged(stored=[message.prompt_ids[0]], evicted=[]))
        self._running[message.sequence_id] = message
        self._drawn[message.sequence_id] = 0
        if message.prompt_logprobs is not None:
            self._channel.write(echo_scores(message, message.sequence_id))

    def _flush(self, message: FlushCache) -> None:
        block_count, evicted = len(self._stored), list(self._stored)
        self._stored.clear()
        self._channel.write(CacheChanged(stored=[], evicted=evicted))
        self._channel.write(Flushed(flush_id=message.flush_id, block_count=block_count))

    def _pin(self, message: PinPrefix) -> None:
        change = len(message.token_ids) if message.is_pinned else -len(message.token_ids)
        has_room = self._pinned_count + change <= KV_TOKENS // 2
        self._pinned_count += change if has_room else 0
        self._channel.write(PrefixPinned(pin_id=message.pin_id, has_room=has_room))

    def _step(self) -> None:
        tokens = []
        for sequence_id, message in list(self._running.items()):
            drawn = echo_token(message, self._drawn[sequence_id], END_TOKEN_ID, sequence_id)
            self._drawn[sequence_id] += 1
            tokens.append(drawn)
            if drawn.finish is not None:
                del self._running[sequence_id]
        self._channel.write(StepDone(tokens=tokens, load=self._load()))

    def _load(self) -> Load:
        return Load(
            running_count=len(self._running), kv_total_tokens=KV_TOKENS, generated_token_count=sum(self._drawn.values())
        )


def main(fd: int, start: str) -> int:
    channel: Channel = BlockingChannel(socket.socket(fileno=fd), ToEngine)
    channel.write(Progress(stage="pretending", fraction=0.5))
    if start == "dies":
        return 7
    if start == "fatal":
        channel.write(Fatal(problem="no model here", advice="Name one."))
        return 1
    if start == "never":
        time.sleep(3600)
    rank_1 = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], stdin=subprocess.DEVNULL)
    channel.write(Progress(stage="pretending", rank_pids=[os.getpid(), rank_1.pid]))
    if start.startswith("stops"):
        os.kill(rank_1.pid if start == "stops rank 1" else os.getpid(), signal.SIGSTOP)
        time.sleep(3600)
    channel.write(_ready([os.getpid(), rank_1.pid]))
    try:
        FakeEngine(channel).run()
    except EndOfStream:
        pass
    rank_1.kill()
    rank_1.wait()
    return 0


def _ready(rank_pids: list[int]) -> Ready:
    return Ready(
        architecture="fake",
        context_tokens=KV_TOKENS,
        vocabulary_size=END_TOKEN_ID + 1,
        parameter_count=0,
        dtype="float32",
        tensor_parallel_size=2,
        kv_total_tokens=KV_TOKENS,
        max_running_count=4,
        rank_pids=rank_pids,
        all_reduce="none",
    )


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "ready"))
