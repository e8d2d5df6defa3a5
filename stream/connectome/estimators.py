"""The estimators by name. Each has one method, `estimate(statistics) -> Graph`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

from stream.connectome.associative import Correlation, PartialCorrelation
from stream.connectome.estimator import Estimator
from stream.connectome.granger import CountGranger, Granger
from stream.connectome.time_aware import PC, NeuroPC, StaticPC, TimeAwarePC

Method = Literal["correlation", "partial", "granger", "counts", "pc", "neuro-pc", "tpc"]
"""Names of the estimators."""
METHODS: tuple[Method, ...] = get_args(Method)


_MAKE: dict[Method, Callable[[float], Estimator]] = {
    "correlation": Correlation,
    "partial": PartialCorrelation,
    "granger": Granger,
    "counts": CountGranger,
    "pc": StaticPC,
    "neuro-pc": NeuroPC,
    "tpc": TimeAwarePC,
}


def estimator(method: Method, alpha: float, alive: Callable[[], None] | None = None) -> Estimator:
    """Return the estimator of that name with that rate of false discoveries.

    `alive` is called now and then by those that may take long.
    """
    made = _MAKE[method](alpha)
    if alive is not None and isinstance(made, PC):
        return replace(made, alive=alive)
    return made


def variables(method: Method, units: int, delay: int) -> int:
    """Return how many variables a method fits at once: it needs clearly more rows than that."""
    return {"partial": units, "granger": units * delay, "counts": units * delay}.get(method, 3)
