"""Ask the mesh and stream its answer; Ctrl-C cancels the request."""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from meshctl import options
from meshctl.failure import CommandFailed, ExitCode

if TYPE_CHECKING:
    from meshctl.question import Question

NAME = "generate"
EPILOG = """\
examples:
  meshctl generate "Why is the sky blue?"
  meshctl generate --max-tokens 64 --temperature 0 < question.txt
  meshctl generate --system "Answer in French." "What is a mesh?"
  meshctl generate --json "Hello" | jq -r 'select(.event == "delta").text'

exit codes:
  0 answered   1 the mesh refused or failed, see the message   2 wrong usage
  4 no router answers, or no model is ready   130 cancelled
"""
TIMEOUT_S = 300.0


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", help="the prompt (default: standard input)")
    parser.add_argument("--model", help="ask this model; see `meshctl models`")
    parser.add_argument("--tier", help="ask any model of this tier")
    parser.add_argument("--system", metavar="TEXT", help="a system message before the prompt")
    parser.add_argument("--raw", action="store_true", help="feed the prompt as it is, without the chat template")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="most tokens of the answer")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 takes the likeliest token always")
    parser.add_argument("--top-p", type=float, metavar="P")
    parser.add_argument("--top-k", type=int, metavar="K")
    parser.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same answer")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="ends the answer; may be repeated")
    parser.add_argument("--session", metavar="ID", help="turns of one conversation share it")
    parser.add_argument("--no-cache", action="store_true", help="neither look up nor store the answer")
    parser.add_argument(
        "--timeout", type=float, default=TIMEOUT_S, metavar="S", help="deadline (default: %(default)s s)"
    )
    options.add_router(parser)
    options.add_json(parser, "print one JSON object for each event")


def run(arguments: Namespace) -> int:
    asyncio.run(_ask(arguments, _question(arguments)))
    return ExitCode.OK


async def _ask(arguments: Namespace, question: "Question") -> None:
    from meshctl import answer, asking

    events = asking.events(options.router_of(arguments), question, arguments.timeout)
    if arguments.json:
        await answer.show_json(events)
    else:
        await answer.show(events, f"http://127.0.0.1:{options.ports_of(arguments).console}")


def _question(arguments: Namespace) -> "Question":
    from meshctl.question import Question

    return Question(
        prompt=_prompt(arguments),
        system=arguments.system,
        raw=arguments.raw,
        model=arguments.model,
        tier=arguments.tier,
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k,
        seed=arguments.seed,
        stop=tuple(arguments.stop),
        session=arguments.session,
        uses_cache=not arguments.no_cache,
    )


def _prompt(arguments: Namespace) -> str:
    if arguments.prompt is not None:
        return str(arguments.prompt)
    if sys.stdin.isatty():
        raise CommandFailed("no prompt: give it as an argument or on standard input", ExitCode.USAGE)
    return sys.stdin.read()
