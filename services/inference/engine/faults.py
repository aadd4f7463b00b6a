"""From an exception that ends the engine to words for the operator."""

from __future__ import annotations

import traceback

from services.inference.engine.messages import Fatal
from services.inference.models.errors import ModelError

_MEMORY_ADVICE = (
    "Lower engine.memory_share or engine.kv_tokens (the KV cache) or engine.step_tokens, choose a smaller model or a "
    "smaller engine.dtype, or free memory."
)
_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


class RankFailed(Exception):
    """Another rank said that it can't go on."""

    def __init__(self, fatal: Fatal) -> None:
        super().__init__(fatal.problem)
        self.fatal = fatal


def as_fatal(error: BaseException) -> Fatal:
    """The stack of what nobody foresaw goes to stderr, which is the engine's log."""
    if isinstance(error, RankFailed):
        return error.fatal
    if isinstance(error, ModelError):
        return Fatal(problem=error.problem, advice=error.advice)
    traceback.print_exception(error)
    if isinstance(error, MemoryError) or any(word in str(error).lower() for word in _MEMORY_WORDS):
        return Fatal(problem="memory ran out", advice=_MEMORY_ADVICE)
    return Fatal(problem=f"{type(error).__name__}: {error}", advice="The engine's log has the stack.")
