"""What the README promises of `make up`: text streams, the cache hits, one trace holds it all."""

import contextlib
import json
import time
from typing import Any

from meshctl.loopback_http import HttpFailed, read_json
from tests.support.local_mesh import Done, LocalMesh

QUESTION = ("--temperature", "0", "--max-tokens", "16", "--json", "The capital of France is")
TRACE_TIMEOUT_S = 20.0
POLL_S = 0.1
SERVICES = {"mesh-router", "mesh-cache", "mesh-compressor", "mesh-inference"}


def text_of(done: Done) -> str:
    return "".join(event["text"] for event in done.events if event["event"] == "delta")


def trace_of(mesh: LocalMesh, trace_id: str) -> dict[str, Any]:
    """Spans reach the console a moment after the answer; waits until all services and the root are there, bounded."""
    deadline = time.monotonic() + TRACE_TIMEOUT_S
    trace: dict[str, Any] = {}
    while time.monotonic() < deadline:
        with contextlib.suppress(HttpFailed):
            trace = read_json(f"{mesh.console}/api/traces/{trace_id}")["data"][0]
            services = {process["serviceName"] for process in trace["processes"].values()}
            if services >= SERVICES and any(not span["references"] for span in trace["spans"]):
                break
        time.sleep(POLL_S)
    return trace


def test_a_prompt_alone_streams_accepted_deltas_and_a_priced_end(mesh: LocalMesh) -> None:
    done = mesh.run("generate", "--json", "Once upon a time")
    assert done.code == 0, done.err
    kinds = [event["event"] for event in done.events]
    finished = done.events[-1]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "finished"
    assert kinds.count("delta") > 1
    assert text_of(done).strip()
    assert finished["usage"]["prompt_tokens"] > 0
    assert finished["usage"]["completion_tokens"] > 0
    assert finished["timings"]["first_token_s"] > 0
    assert finished["cost"]["total"] > 0


def test_the_same_greedy_question_again_is_a_cache_hit_with_the_same_text(mesh: LocalMesh) -> None:
    first = mesh.run("generate", *QUESTION)
    again = mesh.run("generate", *QUESTION)
    assert first.code == again.code == 0, first.err + again.err
    assert again.events[0]["cache_status"] == "hit"
    assert text_of(again) == text_of(first) != ""
    assert again.events[-1]["cost"]["saved_by_cache"] > 0


def test_one_trace_holds_every_service_with_one_root_and_no_orphan(mesh: LocalMesh) -> None:
    done = mesh.run("generate", "--json", "--max-tokens", "4", "A prompt alone")
    assert done.code == 0, done.err
    trace = trace_of(mesh, done.events[-1]["trace_id"])
    spans = {span["spanID"]: span for span in trace["spans"]}
    parents = [reference["spanID"] for span in spans.values() for reference in span["references"]]
    assert {process["serviceName"] for process in trace["processes"].values()} >= SERVICES
    assert sum(not span["references"] for span in spans.values()) == 1
    assert set(parents) <= set(spans)
    assert "first_token" in json.dumps([span["logs"] for span in spans.values()])


def test_the_trace_is_drawn_in_the_terminal(mesh: LocalMesh) -> None:
    done = mesh.run("generate", "--json", "--temperature", "0", "--max-tokens", "4", "A trace to be drawn")
    trace_id = done.events[-1]["trace_id"]
    trace_of(mesh, trace_id)
    drawn = mesh.run("trace", trace_id)
    assert drawn.code == 0, drawn.err
    assert all(service in drawn.out for service in SERVICES)


def test_an_unknown_trace_is_one_sentence(mesh: LocalMesh) -> None:
    done = mesh.run("trace", "0" * 31 + "1")
    assert done.code == 1
    assert done.err.startswith("error: the console has no trace")
    assert done.err.count("\n") == 1


def test_status_shows_every_service_healthy_and_the_engine_s_load(mesh: LocalMesh) -> None:
    done = mesh.run("status", "--json")
    assert done.code == 0, done.out
    overview = json.loads(done.out)
    assert {one["service"] for one in overview["instances"] if one["is_healthy"]} >= SERVICES
    assert overview["missing"] == overview["ended_processes"] == []
    engine = next(one for one in overview["instances"] if one["service"] == "mesh-inference")
    assert engine["load"]["kv_total_tokens"] > 0


def test_models_lists_what_is_served(mesh: LocalMesh) -> None:
    done = mesh.run("models", "--json")
    assert done.code == 0, done.err
    assert [(one["name"], one["ready_count"]) for one in json.loads(done.out)] == [("gemma3-270m", 1)]


def test_a_question_from_standard_input_is_answered_in_text(mesh: LocalMesh) -> None:
    done = mesh.run("generate", "--max-tokens", "4", stdin="Hello")
    assert done.code == 0, done.err
    assert "TTFT" in done.err
    assert f"{mesh.console}/trace/" in done.err


def test_a_wrong_value_is_named_with_its_field(mesh: LocalMesh) -> None:
    done = mesh.run("generate", "--temperature", "-1", "Hello")
    assert done.code == 1
    assert "temperature" in done.err
    assert "Traceback" not in done.err


def test_a_second_up_in_the_same_run_directory_is_refused(mesh: LocalMesh) -> None:
    done = mesh.run("up", "--free-ports")
    assert done.code == 1
    assert "already" in done.err
