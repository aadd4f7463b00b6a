"""What is wrong with a model, said to an operator."""

from __future__ import annotations


class ModelError(Exception):
    """A model that can't be served: what is wrong, and what can be done about it."""

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(f"{problem}. {advice}" if advice else problem)
        self.problem = problem
        self.advice = advice
