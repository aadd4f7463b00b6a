"""`meshctl`: parses the command line and runs one command. Nothing heavy is imported before a command needs it."""

import argparse
import os
import sys
from collections.abc import Sequence

from meshctl.commands import COMMANDS
from meshctl.failure import CommandFailed, ExitCode

DESCRIPTION = "Starts, watches and asks an inference mesh."
EPILOG = """\
examples:
  meshctl up                      start a whole mesh on this machine, ask it something, stay until Ctrl-C
  meshctl up --detach             the same, and return once it is ready
  meshctl generate "Why is the sky blue?"
  meshctl status                  instances, health and load, live
  meshctl down                    stop it, leaving no process

exit codes:
  0 done   1 failed   2 wrong usage   3 this machine lacks something, see the message
  4 the mesh cannot be reached or is not healthy   130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        return int(parsed.run(parsed))
    except CommandFailed as failure:
        print(f"error: {failure}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `meshctl models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def build_parser() -> argparse.ArgumentParser:
    """One sub-parser for each module of `meshctl.commands`."""
    parser = argparse.ArgumentParser(prog="meshctl", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Plain)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        text = (command.__doc__ or "").strip()
        summary = text.partition("\n")[0]
        child = subparsers.add_parser(
            command.NAME, help=summary, description=summary, epilog=command.EPILOG, formatter_class=_Plain
        )
        command.add_arguments(child)
        child.set_defaults(run=command.run)
    return parser


_Plain = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
