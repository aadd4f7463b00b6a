"""One module for each command: NAME, EPILOG, add_arguments, run. The first line of its docstring is its help."""

from argparse import ArgumentParser, Namespace
from typing import Protocol, cast

from meshctl.commands import cache, check_config, down, generate, models, status, trace, up


class Command(Protocol):
    """What a module of this package offers."""

    NAME: str
    EPILOG: str
    __doc__: str | None

    def add_arguments(self, parser: ArgumentParser) -> None: ...

    def run(self, arguments: Namespace) -> int:
        """Returns the exit code; raises CommandFailed."""
        ...


COMMANDS = cast("tuple[Command, ...]", (up, down, status, generate, models, trace, cache, check_config))
