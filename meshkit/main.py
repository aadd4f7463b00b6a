"""The command line that every service shares: `python -m services.cache --config FILE [--check]`.

The one place that reads `os.environ`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from meshkit.chassis import Chassis
from meshkit.errors import MeshError
from meshkit.listening import CannotListen
from meshkit.server import serve
from meshkit.service import Service
from meshkit.settings import ServiceSettings
from meshkit.settings_loader import SettingsError, describe, load

S = TypeVar("S", bound=ServiceSettings)


Build = Callable[[S, Chassis], Service]


def run(
    name: str,
    settings_type: type[S],
    build: Build[S],
    service_type: type[Service],
    *,
    serve: Callable[[str, S, Build[S], type[Service]], Coroutine[Any, Any, None]] = serve,
    about: str = "",
) -> None:
    """Parse the command line, load settings, serve. `about` goes into `--help`.

    Exit status: 0 stopped as asked, 2 wrong settings, 3 can't listen on the address, 4 the service's `start` raised a
    MeshError.
    """
    env_prefix = f"MESH_{name.upper()}_"
    arguments = _parser(name, env_prefix, about).parse_args()
    try:
        loaded = load(settings_type, env_prefix=env_prefix, path=arguments.config, environ=os.environ)
    except SettingsError as problem:
        sys.exit(_said(problem, 2))
    if arguments.check:
        print(describe(loaded))
        return
    try:
        asyncio.run(serve(name, loaded.value, build, service_type))
    except CannotListen as problem:
        sys.exit(_said(problem, 3))
    except MeshError as problem:
        sys.exit(_said(problem, 4))
    except KeyboardInterrupt:
        sys.exit(130)


def _parser(name: str, env_prefix: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{name}",
        description=f"Runs one instance of the mesh's {name} service. {about}".strip(),
        epilog=f"Settings: defaults < --config < environment. Example: {env_prefix}SERVER__PORT=50099",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    parser.add_argument("--check", action="store_true", help="print the final settings with their sources, and exit")
    return parser


def _said(problem: Exception, status: int) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return status
