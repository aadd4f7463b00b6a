"""Check the settings of services without starting them, and show each value with its source."""

import json
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from meshctl import options
from meshctl.failure import CommandFailed, ExitCode

NAME = "check-config"
EPILOG = """\
examples:
  meshctl check-config                       the files of deploy/local
  meshctl check-config router                one service
  MESH_ROUTER_SERVER__PORT=x meshctl check-config router
  meshctl check-config router --config /etc/mesh/router.toml

exit codes:
  0 all settings are valid   1 some are not   2 wrong usage
"""
SERVICES = ("router", "cache", "compressor", "inference", "console")
TIMEOUT_S = 60.0


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("service", nargs="*", help=f"of {', '.join(SERVICES)} (default: all)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file; needs exactly one service")
    options.add_json(parser)


def run(arguments: Namespace) -> int:
    services = tuple(arguments.service) or SERVICES
    unknown = [name for name in services if name not in SERVICES]
    if unknown:
        raise CommandFailed(f"no service {unknown[0]!r}; there are {', '.join(SERVICES)}", ExitCode.USAGE)
    if arguments.config and len(services) != 1:
        raise CommandFailed("--config needs exactly one service", ExitCode.USAGE)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda name: _check(name, arguments.config), services))
    if arguments.json:
        print(json.dumps([{"service": one[0], "valid": one[1], "output": one[2]} for one in results], indent=2))
    else:
        for name, is_valid, output in results:
            print(f"== {name}: {'valid' if is_valid else 'NOT VALID'}\n{output}\n")
    return ExitCode.OK if all(is_valid for _, is_valid, _ in results) else ExitCode.FAILED


def _check(service: str, config: Path | None) -> tuple[str, bool, str]:
    """The service's own `--check`, in its own process: the same code that will read the settings."""
    from meshctl.local.plan import config_path

    command = [sys.executable, "-m", f"services.{service}", "--check", "--config", str(config or config_path(service))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    return service, done.returncode == 0, (done.stdout + done.stderr).strip()
