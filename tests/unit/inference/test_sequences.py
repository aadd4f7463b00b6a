"""Rules of the open sequences: what they send to the engine, and which error ends them."""

import pytest

from meshkit.errors import DeadlineExceeded, Internal, MeshError
from services.inference.engine.messages import AddSequence, SequenceFailed, ToEngine
from services.inference.engine_port import SequenceSpec
from services.inference.sequences import Sequences
from tests.support.inference_engines import spec


def opened(**changes: object) -> tuple[Sequences, list[ToEngine]]:
    sequences, sent = Sequences(most=4, retry_after_s=1.0), list[ToEngine]()
    plain = spec(5)
    sequences.open(
        SequenceSpec(prompt_ids=[5], sampling=plain.sampling, stopping=plain.stopping, **changes),  # type: ignore[arg-type]
        sent.append,
    )
    return sequences, sent


def test_salt_deadline_and_objective_go_with_the_sequence() -> None:
    _, sent = opened(cache_salt="ada", deadline_s=3.0, ttft_slo_s=0.5)
    (message,) = sent
    assert isinstance(message, AddSequence)
    assert (message.cache_salt, message.deadline_s, message.ttft_slo_s) == ("ada", 3.0, 0.5)


@pytest.mark.parametrize(("reason", "kind"), [("expired", DeadlineExceeded), ("error", Internal)])
async def test_sequence_that_the_engine_gave_up_ends_with_the_error_of_its_reason(
    reason: str, kind: type[MeshError]
) -> None:
    sequences = Sequences(most=4, retry_after_s=1.0)
    stream = sequences.open(spec(5), lambda _: None)
    sequences.fail(SequenceFailed(sequence_id=stream.sequence_id, problem="as told", reason=reason))  # type: ignore[arg-type]
    with pytest.raises(kind):
        await stream.next_event()
