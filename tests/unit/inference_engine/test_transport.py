"""Frames survive the wire in both styles, and what isn't a frame is refused."""

from __future__ import annotations

import socket

import pytest

from services.inference.engine.messages import Abort, FromEngine, Heartbeat, Shutdown, ToEngine
from services.inference.engine.transport import BadFrame, BlockingChannel, EndOfStream, open_stream_channel
from tests.unit.inference_engine.requests import request


async def test_blocking_and_asyncio_ends_understand_each_other() -> None:
    ours, theirs = socket.socketpair()
    engine: BlockingChannel[FromEngine, ToEngine] = BlockingChannel(theirs, ToEngine)
    rpc = await open_stream_channel(ours, FromEngine)
    sent = [request(1, [1, 2, 3], logprobs=0), Abort(sequence_id=1), Shutdown()]
    for message in sent:
        await rpc.write(message)
    assert [engine.read() for _ in sent] == sent
    engine.write(Heartbeat(step_count=3))
    assert await rpc.read() == Heartbeat(step_count=3)
    engine.close()
    with pytest.raises(EndOfStream):
        await rpc.read()
    await rpc.close()


def test_is_readable_sees_frames_and_the_end() -> None:
    ours, theirs = socket.socketpair()
    channel: BlockingChannel[ToEngine, ToEngine] = BlockingChannel(ours, ToEngine)
    assert not channel.is_readable(0.0)
    theirs.close()
    assert channel.is_readable(1.0)
    with pytest.raises(EndOfStream):
        channel.read()


@pytest.mark.parametrize("frame", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02{}", b"\x00\x00\x00\x01\xc1"])
def test_garbage_is_a_bad_frame(frame: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(frame)
    with pytest.raises(BadFrame):
        BlockingChannel(ours, ToEngine).read()


def test_message_over_the_limit_is_not_sent() -> None:
    ours, _theirs = socket.socketpair()
    with pytest.raises(BadFrame):
        channel: BlockingChannel[ToEngine, ToEngine] = BlockingChannel(ours, ToEngine, max_frame_bytes=16)
        channel.write(request(1, list(range(100))))
