"""The form of what was measured on a reader's answers: what each lossless stage changed, and a logistic model of what
selection did, both with how sure they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

from services.compressor.stages.stage import Quality

FILE = "fitted.json"
"""Beside this module; `python -m benchmarks.compressor.fit_quality` writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One of a selector's features, as far as it was seen; `spread` is over 0.

    In the model it counts as (value - middle) / spread.
    """

    name: str
    middle: float
    spread: float
    least: float
    most: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Fitted by `python -m benchmarks.compressor.fit_quality`."""

    provenance: str
    """When, with which reader, on which questions, how many outcomes."""
    signals: tuple[Signal, ...]
    seen: tuple[Signal, ...]
    """Features that the model does not use and whose range bounds it all the same."""
    weights: tuple[float, ...]
    """The intercept, then one a signal; none is negative, so more of a signal never lowers the score."""
    covariance: tuple[tuple[float, ...], ...]
    """Of the weights, by bootstrap over questions."""
    lossless: Mapping[str, Quality] = field(default_factory=dict)
    """Of each lossless stage that was measured, by its name."""

    def as_json(self) -> str:
        """What `from_json` reads."""
        return json.dumps(asdict(self), indent=2) + "\n"


def from_json(text: str) -> Evidence:
    """Raises ValueError, KeyError or TypeError where the text is no evidence."""
    row: dict[str, Any] = json.loads(text)
    signals = tuple(Signal(**one) for one in row["signals"])
    weights = tuple(map(float, row["weights"]))
    covariance = tuple(tuple(map(float, one)) for one in row["covariance"])
    if not len(signals) + 1 == len(weights) == len(covariance) or any(len(one) != len(weights) for one in covariance):
        raise ValueError("one weight and one row of the covariance for the intercept and for each signal")
    seen = tuple(Signal(**one) for one in row["seen"])
    return Evidence(
        provenance=row["provenance"],
        signals=signals,
        seen=seen,
        weights=weights,
        covariance=covariance,
        lossless={name: Quality(**one) for name, one in row["lossless"].items()},
    )


def packaged_evidence() -> Evidence:
    """What comes with this version of the selector."""
    return from_json(files(__package__).joinpath(FILE).read_text("utf-8"))
