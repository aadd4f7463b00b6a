"""Show every instance with its health and load; live on a terminal, once elsewhere."""

import asyncio
import json
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from meshctl import options
from meshctl.failure import ExitCode

if TYPE_CHECKING:
    from meshctl.overview import Overview

NAME = "status"
EPILOG = """\
examples:
  meshctl status              live, until Ctrl-C
  meshctl status --once
  meshctl status --json | jq '.instances[] | select(.is_healthy | not)'
  meshctl status --consul http://10.0.0.5:8500

exit codes:
  0 every service has a healthy instance   4 one has none, or the registry cannot be reached
"""
REFRESH_S = 1.0


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--once", action="store_true", help="print the table once")
    parser.add_argument("--consul", metavar="URL", help="Consul to ask (default: that of the mesh running here)")
    options.add_run_dir(parser)
    options.add_json(parser, "print one JSON object")


def run(arguments: Namespace) -> int:
    from meshctl import overview

    def look() -> "Overview":
        return asyncio.run(overview.look(arguments.run_dir.resolve(), arguments.consul))

    if arguments.json:
        now = look()
        print(json.dumps(asdict(now), indent=2))
    elif arguments.once or not sys.stdout.isatty():
        now = look()
        overview.print_once(now)
    else:
        now = overview.show_live(look, REFRESH_S)
    return ExitCode.OK if now.is_whole else ExitCode.UNREACHABLE
