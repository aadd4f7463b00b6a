"""Start a whole mesh on this machine, ask it something, and stay until Ctrl-C.

Checks first, then starts Consul, Valkey and the console, then cache, compressor, inference and router.
"""

import asyncio
import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from meshctl import options
from meshctl.failure import CommandFailed, ExitCode
from meshctl.progress import Progress

if TYPE_CHECKING:
    from meshctl.local.plan import MeshPlan
    from meshctl.local.preparation import Wish
    from meshctl.local.state import RunState

NAME = "up"
EPILOG = """\
examples:
  meshctl up
  meshctl up --model Qwen/Qwen2.5-0.5B-Instruct --detach
  meshctl up --model ./my-model.gguf --port router=50151 --port consul=8600
  meshctl up --run-dir /tmp/second --free-ports --detach     a second mesh beside the first

exit codes:
  0 stopped as asked, or ready with --detach   1 something failed to start   2 wrong usage
  3 a port, memory, disk or a binary is missing   130 interrupted while starting
"""
PROMPT = "In one sentence, a service mesh is"  # base models continue it, instructed ones answer it
PROMPT_TOKENS = 32
PROMPT_TIMEOUT_S = 120.0


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--model", help="hub id, directory or .gguf (default: a small instruct model, else Gemma 3 270M)"
    )
    parser.add_argument("--detach", action="store_true", help="return once the mesh is ready")
    parser.add_argument("--tp", type=int, metavar="N", help="ranks that share the model (default: 2 with two cores)")
    parser.add_argument("--port", action="append", default=[], metavar="NAME=N", help="another port; may be repeated")
    parser.add_argument("--free-ports", action="store_true", help="any ports that are free; see `meshctl status`")
    parser.add_argument(
        "--registry", choices=("auto", "consul", "file"), default="auto", help="auto: Consul, else the file registry"
    )
    parser.add_argument("--prompt", default=PROMPT, help="what to ask once it is ready; empty: nothing")
    parser.add_argument("--skip-checks", action="store_true", help="start even where memory or disk look too small")
    options.add_run_dir(parser)
    options.add_json(parser, "print one JSON object about the mesh once it is ready")


def run(arguments: Namespace) -> int:
    from meshctl.local import session
    from meshctl.local.preparation import prepare

    wish, progress = _wish(arguments), Progress()
    with session.terminated_like_interrupted():
        with session.sole_start(wish.run_dir):
            plan = prepare(wish, progress)
            state = session.start(plan, progress)
        try:
            _show(arguments, plan, state, progress)
            if arguments.detach:
                session.detach(plan.run_dir, state)
                return ExitCode.OK
            code = _stay(state, progress)
        except BaseException:
            session.end(plan.run_dir, progress)
            raise
        session.end(plan.run_dir, progress)
        return code


def _stay(state: "RunState", progress: Progress) -> int:
    from meshctl.local import session

    progress.say("the mesh is up; Ctrl-C stops it")
    try:
        return session.stay(state, progress)
    except KeyboardInterrupt:
        return ExitCode.OK


def _wish(arguments: Namespace) -> "Wish":
    from meshctl.local.ports import Ports, free_ports, parse_ports
    from meshctl.local.preparation import Wish

    try:
        ports = parse_ports(arguments.port, free_ports() if arguments.free_ports else Ports())
    except ValueError as problem:
        raise CommandFailed(f"--port {problem}", ExitCode.USAGE) from problem
    return Wish(
        run_dir=arguments.run_dir.resolve(),
        ports=ports,
        model=arguments.model,
        registry=arguments.registry,
        tensor_parallel_size=arguments.tp,
        skips_checks=arguments.skip_checks,
    )


def _show(arguments: Namespace, plan: "MeshPlan", state: "RunState", progress: Progress) -> None:
    """The proof that it works: one prompt through the router."""
    if arguments.json:
        print(json.dumps(_as_json(plan, state)), flush=True)
    else:
        progress.say(f"router 127.0.0.1:{plan.ports.router}, traces {plan.console_url}, logs {plan.run_dir / 'logs'}")
    if arguments.prompt:
        asyncio.run(_ask(plan, arguments.prompt, is_quiet=arguments.json))


async def _ask(plan: "MeshPlan", prompt: str, *, is_quiet: bool) -> None:
    from meshctl import answer, asking
    from meshctl.question import Question

    question = Question(prompt=prompt, max_tokens=PROMPT_TOKENS)
    events = asking.events(f"127.0.0.1:{plan.ports.router}", question, PROMPT_TIMEOUT_S)
    if is_quiet:
        async for _ in events:
            pass
        return
    print(f"> {prompt}", file=sys.stderr)
    await answer.show(events, plan.console_url)


def _as_json(plan: "MeshPlan", state: "RunState") -> dict[str, object]:
    return {
        "router": f"127.0.0.1:{plan.ports.router}",
        "console": plan.console_url,
        "consul": plan.consul_url if plan.consul_binary else None,
        "model": plan.model_name,
        "registry": plan.registry,
        "logs": str(Path(plan.run_dir) / "logs"),
        "ports": plan.ports.named(),
        "processes": [asdict(record) for record in state.processes],
    }
