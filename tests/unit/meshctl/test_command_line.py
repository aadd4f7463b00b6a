"""The command line: fast and helpful help, exit codes, what an answer looks like."""

import asyncio
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshclient import Accepted, Delta, Event, Finished
from meshclient.events import Cost, Timings, Usage
from meshctl import answer, progress
from meshctl.__main__ import build_parser, main
from meshctl.commands import COMMANDS
from meshctl.failure import CommandFailed
from meshctl.question import Question, request_of

HEAVY = ("grpc", "rich", "torch", "aiohttp", "huggingface_hub")
ACCEPTED = Accepted(decision_id="d", model="m", tier="standard", instance="i", revision="r", cache_status="miss")
TIMINGS = Timings(
    admission_s=0.0, cache_lookup_s=None, compress_s=None, route_s=0.0, engine_queue_s=0.0, prefill_s=0.1,
    first_token_s=0.25, decode_s=0.9, total_s=1.2, attempts=1,
)  # fmt: skip
FINISHED = Finished(
    finish_reason="length",
    usage=Usage(prompt_tokens=5, cached_prompt_tokens=0, compressed_from_tokens=0, completion_tokens=10),
    timings=TIMINGS,
    cost=Cost(total=27, saved_by_cache=0, saved_by_compression=0, counterfactual=27),
    trace_id="ab" * 16,
)


async def stream(*events: Event) -> AsyncIterator[Event]:
    for event in events:
        yield event


@pytest.mark.parametrize("command", [command.NAME for command in COMMANDS])
def test_every_command_s_help_has_examples_and_exit_codes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([command, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert "examples:" in text
    assert "exit codes:" in text
    assert "--json" in text


def test_help_imports_nothing_heavy() -> None:
    code = f"import sys, meshctl.__main__ as m; m.build_parser(); sys.exit(any(x in sys.modules for x in {HEAVY}))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("generate", "--router", "127.0.0.1:1", "--timeout", "2", "hello"), 4),
        (("models", "--router", "127.0.0.1:1"), 4),
        (("trace", "--console", "http://127.0.0.1:1", "ab" * 16), 4),
        (("check-config", "nobody"), 2),
        (("up", "--port", "nobody=1"), 2),
    ],
)
def test_exit_codes_tell_why_and_the_reason_is_one_line(
    arguments: tuple[str, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = () if arguments[0] == "check-config" else ("--run-dir", str(tmp_path))
    assert main([*arguments, *options]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_text_goes_to_standard_output_and_the_summary_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(answer.show(stream(ACCEPTED, Delta(text="a b"), Delta(text=" c"), FINISHED), "http://console"))
    shown = capsys.readouterr()
    assert shown.out == "a b c\n"
    assert shown.err == (
        "m | standard | 5 + 10 tokens | TTFT 250 ms | TPOT 100 ms | $0.000027 | ended by length | "
        f"http://console/trace/{'ab' * 16}\n"
    )


def test_a_stream_without_its_end_is_a_failure() -> None:
    with pytest.raises(CommandFailed, match="without its last event"):
        asyncio.run(answer.show(stream(ACCEPTED, Delta(text="a")), ""))


def test_json_is_one_object_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(answer.show_json(stream(ACCEPTED, Delta(text="a"), FINISHED)))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["accepted", "delta", "finished"]


def test_a_question_sets_only_what_was_asked_for() -> None:
    request = request_of(Question(prompt="hello"))
    assert not request.sampling.HasField("temperature")
    assert not request.stopping.HasField("max_tokens")
    assert request.WhichOneof("target") is None
    assert request_of(Question(prompt="hello", temperature=0.0)).sampling.HasField("temperature")


def test_a_long_step_is_reported_in_plain_lines_where_there_is_no_terminal() -> None:
    out, now = io.StringIO(), [0.0]
    shown = progress.Progress(out, clock=lambda: now[0])
    with shown.step("quick"):
        now[0] += 1.0
    with shown.step("slow"):
        now[0] += 3.0
    assert out.getvalue() == "slow: done in 3.0 s\n"
