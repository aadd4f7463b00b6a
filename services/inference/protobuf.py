"""The contract's messages to the domain's values and back. Translates only; `validation.py` judges."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.common.v1 import common_pb2
from mesh.inference.v1 import inference_service_pb2 as pb
from meshkit.coalescing import Piece
from services.inference.answer import PositionScores, TokenScore
from services.inference.engine.blocks import BLOCK_TOKENS
from services.inference.engine_port import LoadReading
from services.inference.generation import Ended, Started
from services.inference.kv_events import KvEvent
from services.inference.requests import (
    GenerationRequest,
    OutputWish,
    Prompt,
    SamplingWish,
    StoppingWish,
    ToolCall,
    Turn,
)

_FINISH_REASONS = {
    "stop": common_pb2.FINISH_REASON_STOP,
    "length": common_pb2.FINISH_REASON_LENGTH,
    "cancelled": common_pb2.FINISH_REASON_CANCELLED,
}


def read_request(message: pb.GenerateRequest) -> GenerationRequest:
    """A whole request."""
    return GenerationRequest(
        prompt=read_prompt(message.prompt),
        request_id=message.request_id,
        sampling=_read_sampling(message.sampling),
        stopping=_read_stopping(message.stopping),
        output=_read_output(message.output, wants_block_hashes=message.wants_block_hashes),
        constraint_kind=message.constraint.WhichOneof("kind") or "",
        priority=message.priority,
        ttft_slo_s=message.ttft_slo.ToNanoseconds() / 1e9 if message.HasField("ttft_slo") else None,
        adapter=message.adapter,
        model=message.model,
    )


def read_prompt(message: common_pb2.Prompt) -> Prompt:
    """A prompt in whichever form it has; in none where it has none."""
    form = message.WhichOneof("input")
    return Prompt(
        turns=tuple(_read_turn(turn) for turn in message.messages.messages) if form == "messages" else None,
        text=message.text if form == "text" else None,
        token_ids=tuple(message.token_ids.ids) if form == "token_ids" else None,
        is_raw=message.raw,
        tool_count=len(message.tools),
    )


def write_started(started: Started, *, model: str, revision: str) -> pb.GenerateResponse:
    """The first event."""
    return pb.GenerateResponse(
        started=pb.Started(
            request_id=started.request_id,
            prompt_tokens=started.prompt_token_count,
            model=model,
            revision=revision,
            prompt_logprobs=write_scores(started.prompt_scores),
            block_hashes=started.block_hashes,
            block_tokens=BLOCK_TOKENS if started.block_hashes else 0,
        )
    )


def write_piece(piece: Piece) -> pb.GenerateResponse:
    """A delta."""
    return pb.GenerateResponse(
        delta=common_pb2.Delta(
            index=piece.index,
            text=piece.text,
            token_ids=piece.token_ids,
            logprobs=write_scores(score for score in piece.logprobs if isinstance(score, PositionScores)),
            token_count=piece.token_count,
        )
    )


def write_ended(ended: Ended) -> pb.GenerateResponse:
    """The last event."""
    return pb.GenerateResponse(
        finished=pb.Finished(
            finish_reason=_FINISH_REASONS[ended.finish_reason],
            usage=common_pb2.Usage(
                prompt_tokens=ended.prompt_token_count,
                cached_prompt_tokens=ended.cached_prompt_token_count,
                completion_tokens=ended.completion_token_count,
            ),
            timings=common_pb2.Timings(
                engine_queue=duration(ended.queue_s),
                prefill=duration(ended.prefill_s),
                first_token=duration(ended.first_token_s),
                decode=duration(ended.decode_s),
                total=duration(ended.total_s),
                attempts=1,
            ),
            stop_matched=ended.stop_matched,
        )
    )


def write_load(reading: LoadReading, *, is_draining: bool, wall_s: float) -> pb.Load:
    """The load, as read at this Unix time."""
    observed_at = Timestamp()
    observed_at.FromNanoseconds(int(wall_s * 1e9))
    load = reading.load
    return pb.Load(
        running_count=load.running_count,
        waiting_count=load.waiting_count,
        prefill_backlog_tokens=load.prefill_backlog_tokens,
        kv_used_tokens=load.kv_used_tokens,
        kv_total_tokens=load.kv_total_tokens,
        step_time=duration(load.step_time_s),
        is_draining=is_draining,
        engine_generation=reading.generation,
        observed_at=observed_at,
        max_running_count=reading.max_running_count,
        generated_token_count=load.generated_token_count,
    )


def write_kv_event(event: KvEvent, block_tokens: int) -> pb.SubscribeKvEventsResponse:
    """A change of the prefix cache, or all of it."""
    blocks = pb.KvBlocks(block_hashes=event.block_hashes, block_tokens=block_tokens)
    return pb.SubscribeKvEventsResponse(
        sequence=event.number,
        snapshot=blocks if event.kind == "snapshot" else None,
        stored=blocks if event.kind == "stored" else None,
        evicted=blocks if event.kind == "evicted" else None,
    )


def write_scores(scores: Iterable[PositionScores]) -> list[common_pb2.PositionLogprobs]:
    """Log-probabilities of positions."""
    return [
        common_pb2.PositionLogprobs(drawn=_write_score(score.drawn), top=[_write_score(one) for one in score.top])
        for score in scores
    ]


def duration(seconds: float) -> Duration:
    """A span; never negative."""
    message = Duration()
    message.FromNanoseconds(max(0, int(seconds * 1e9)))
    return message


def _write_score(score: TokenScore) -> common_pb2.TokenLogprob:
    return common_pb2.TokenLogprob(token_id=score.token_id, text=score.text, logprob=score.logprob)


def _read_turn(message: common_pb2.Message) -> Turn:
    return Turn(
        role=message.role,
        content=message.content,
        name=message.name,
        tool_calls=tuple(ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in message.tool_calls),
        tool_call_id=message.tool_call_id,
    )


def _read_sampling(message: common_pb2.SamplingParams) -> SamplingWish:
    def given(name: str) -> float | None:
        return getattr(message, name) if message.HasField(name) else None

    return SamplingWish(
        temperature=given("temperature"),
        top_p=given("top_p"),
        top_k=message.top_k if message.HasField("top_k") else None,
        min_p=given("min_p"),
        repetition_penalty=given("repetition_penalty"),
        presence_penalty=given("presence_penalty"),
        frequency_penalty=given("frequency_penalty"),
        seed=message.seed if message.HasField("seed") else None,
        logit_bias=dict(message.logit_bias),
        n=message.n if message.HasField("n") else None,
    )


def _read_stopping(message: common_pb2.StoppingParams) -> StoppingWish:
    return StoppingWish(
        max_tokens=message.max_tokens if message.HasField("max_tokens") else None,
        min_tokens=message.min_tokens if message.HasField("min_tokens") else None,
        stop=tuple(message.stop),
        stop_token_ids=tuple(message.stop_token_ids),
        ignore_eos=message.ignore_eos,
    )


def _read_output(message: common_pb2.OutputParams, *, wants_block_hashes: bool) -> OutputWish:
    return OutputWish(
        logprobs=message.logprobs if message.HasField("logprobs") else None,
        prompt_logprobs=message.prompt_logprobs if message.HasField("prompt_logprobs") else None,
        echo=message.echo,
        include_token_ids=message.include_token_ids,
        block_hashes=wants_block_hashes,
    )
