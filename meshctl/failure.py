"""How a command ends: the exit codes, and the one exception that carries a sentence for the operator."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script may rely on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_POSSIBLE = 3
    """This machine lacks something: a port, memory, disk, a binary."""
    UNREACHABLE = 4
    """The mesh cannot be reached or is not healthy."""
    INTERRUPTED = 130


class CommandFailed(Exception):
    """Ends the command; the text says in one sentence what happened and what to do."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
