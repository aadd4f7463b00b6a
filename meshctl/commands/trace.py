"""Draw one trace as a waterfall in the terminal.

The id stands in the last line of `meshctl generate`.
"""

import json
import shutil
from argparse import ArgumentParser, Namespace
from typing import Any

from meshctl import options
from meshctl.failure import CommandFailed, ExitCode

NAME = "trace"
EPILOG = """\
examples:
  meshctl trace 4bf92f3577b34da6a3ce929d0e0e4736
  meshctl trace --json 4bf92f3577b34da6a3ce929d0e0e4736 | jq '.data[0].spans | length'

exit codes:
  0 shown   1 no such trace   4 no console answers
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("trace_id", metavar="ID", help="32 hex digits, or the trace's link")
    parser.add_argument("--console", metavar="URL", help="console to ask (default: that of the mesh running here)")
    options.add_run_dir(parser)
    options.add_json(parser, "print the trace in Jaeger's JSON")


def run(arguments: Namespace) -> int:
    console = arguments.console or f"http://127.0.0.1:{options.ports_of(arguments).console}"
    trace = _fetch(console.rstrip("/"), arguments.trace_id.rstrip("/").rpartition("/")[2])
    if arguments.json:
        print(json.dumps(trace))
    else:
        from meshctl.waterfall import render

        print(render(trace, shutil.get_terminal_size().columns))
    return ExitCode.OK


def _fetch(console: str, trace_id: str) -> Any:
    from meshctl.loopback_http import HttpFailed, read_json

    try:
        return read_json(f"{console}/api/traces/{trace_id}")
    except HttpFailed as failure:
        raise CommandFailed(f"the console has no trace {trace_id} (it answered {failure.status})") from failure
    except (OSError, ValueError) as problem:
        message = f"no console answers at {console}: start a mesh with `meshctl up`, or name one with --console"
        raise CommandFailed(message, ExitCode.UNREACHABLE) from problem
