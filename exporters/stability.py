"""The gate: no recurrent model is written whose state amplifies what it should forget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from stream.errors import ModelError
from stream.model_file import Contract
from stream.stability.card import UNSTABLE_ABOVE, stability_lines
from stream.stability.drives import Inputs
from stream.stability.measuring import Effort, measure

if TYPE_CHECKING:  # Measuring needs no onnx.
    from exporters.onnx_graph import StepGraph
    from exporters.verify import Stretch

EFFORT = Effort()
OF_PICTURES = Effort(steps=150, directions=4)
"""For models whose step takes milliseconds."""
QUICK = Effort(sequences=2, steps=100, warm_up=30, directions=2)
"""For those who wait: what a session of labelling trains."""
_ROUNDING_TO_TOLERANCE = math.log(100)


def effort_for(contract: Contract) -> Effort:
    """Return how thoroughly a model is measured: in about half a minute on one core."""
    (port,) = contract.inputs
    return OF_PICTURES if len(port.shape) > 2 else EFFORT


def with_stability(
    step: StepGraph,
    contract: Contract,
    inputs: Inputs,
    *,
    allow_unstable: bool = False,
    effort: Effort | None = None,
) -> Contract:
    """Return the contract with how its model forgets, measured on the graph that will be written.

    Parameters
    ----------
    step, contract
        What would be written.
    inputs
        (steps, ...) real ones; see `stream.stability.measuring.measure`.
    allow_unstable
        Go on with an unstable model, and say so in the contract.
    effort
        Other than that of `effort_for`.

    Raises
    ------
    ModelError
        The model is unstable.
    """
    effort = effort or effort_for(contract)
    found = measure(step.model.SerializeToString(), contract, inputs, effort)
    if found is not None and not found.stable:
        if not allow_unstable:
            driven = ", ".join(f"{name} {value:+.3f}" for name, value in found.by_drive.items())
            raise ModelError(
                f"{contract.name} is unstable: small differences in its state grow by up to"
                f" {max(found.by_drive.values()):.3f} nats a step ({driven}), where"
                f" {UNSTABLE_ABOVE:g} is allowed, so it would never recover from a lost packet;"
                " nothing was written. Train it again, or export it with --allow-unstable."
            )
        found = msgspec.structs.replace(found, allowed=True)
    return msgspec.structs.replace(contract, stability=found)


def comparable(
    stretches: Sequence[Stretch], memory: int, contract: Contract
) -> tuple[list[Stretch], int]:
    """Cut stretches to what can be compared with PyTorch, for `exporters.verify.verify`.

    A stable model is compared all along. One that is unstable blows up how ONNX Runtime and PyTorch
    round, so it is compared only for as long as that takes to grow a hundredfold.

    Returns
    -------
    stretches, memory
        As they were, or cut.
    """
    found = contract.stability
    if found is None or found.stable:
        return list(stretches), memory
    bins = max(2, int(_ROUNDING_TO_TOLERANCE / max(found.by_drive.values())))
    bins = min(bins, len(stretches[0].counts))
    cut = [
        replace(s, counts=s.counts[:bins], expected={n: v[:bins] for n, v in s.expected.items()})
        for s in stretches
    ]
    return cut, min(memory, bins - 1)


def stability_report(contract: Contract) -> list[str]:
    """Return what a command prints of a contract's stability, line by line."""
    if contract.stability is None:
        return []
    return [f"{title}: {text}" for title, text in stability_lines(contract.stability).items()]
