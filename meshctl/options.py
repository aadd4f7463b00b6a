"""Options that several commands share, and where they get their answers: the command line, else the running mesh."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from meshctl.local.ports import Ports
from meshctl.local.state import load_state

DEFAULT_RUN_DIR = Path(__file__).resolve().parent.parent / ".run"


def add_run_dir(parser: ArgumentParser) -> None:
    """`--run-dir`: which of several meshes on this machine."""
    parser.add_argument(
        "--run-dir",
        type=Path,
        metavar="DIR",
        default=Path(os.environ.get("MESHCTL_RUN_DIR") or DEFAULT_RUN_DIR),
        help="state and logs of the mesh (default: .run in the checkout, or MESHCTL_RUN_DIR)",
    )


def add_json(parser: ArgumentParser, what: str = "print JSON instead of text") -> None:
    parser.add_argument("--json", action="store_true", help=what)


def add_router(parser: ArgumentParser) -> None:
    """`--router`, with `--run-dir` as the source of its default."""
    add_run_dir(parser)
    parser.add_argument("--router", metavar="HOST:PORT", help="router to ask (default: that of the mesh running here)")


def ports_of(arguments: Namespace) -> Ports:
    """The running mesh's ports; the default ones where none runs."""
    state = load_state(arguments.run_dir)
    return state.ports if state else Ports()


def router_of(arguments: Namespace) -> str:
    return arguments.router or f"127.0.0.1:{ports_of(arguments).router}"
