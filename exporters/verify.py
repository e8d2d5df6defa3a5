"""Hold an exported step against the network that it came from, before any file is written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from exporters.model_writer import write_model
from exporters.onnx_graph import StepGraph
from stream.errors import ModelError
from stream.inference import StreamingSession
from stream.model_file import Contract, Port

TOLERANCE = 1e-4
Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Stretch:
    """Counts (bins, n_in) float32 from a cold start, and what each output should then be.

    `expected` maps an output's name to (bins, n); with look-ahead, row t is what the step gives at
    bin t.
    """

    counts: NDArray[np.float32]
    expected: Mapping[str, NDArray[np.float64]]


def cut_stretches(counts: NDArray[np.float32], bins: int) -> list[NDArray[np.float32]]:
    """Take stretches of `bins` bins for verification: two of real counts, and silence.

    Parameters
    ----------
    counts
        (any, n_in) real counts; repeated when they are fewer than `bins`.
    bins
        Enough to fill and overwrite what the model remembers.
    """
    repeated = np.resize(counts, (max(len(counts), bins), counts.shape[1]))
    middle = (len(repeated) - bins) // 2
    real = [np.ascontiguousarray(repeated[i : i + bins]) for i in (0, middle)]
    return [*real, np.zeros_like(real[0])]


def run(step: StepGraph, contract: Contract, counts: NDArray[np.float32]) -> Outputs:
    """Step a model bin by bin, as the live path does; returns (bins, n) by output."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_model(step.model, contract, path)
        session = StreamingSession(path, device="cpu")
        (port,) = contract.inputs
        steps = [session.step({port.name: row}) for row in counts]
    return {name: np.stack([s[name] for s in steps]) for name in steps[0]}


def verify(
    step: StepGraph,
    contract: Contract,
    stretches: Sequence[Stretch],
    memory: int,
    spreads: Mapping[str, NDArray[np.float32]] | None = None,
) -> Contract:
    """Return the contract with measured parity, and with the states that work in place.

    Parameters
    ----------
    step, contract
        What would be written. `contract.states` are those of the step.
    stretches
        At least one, all of one length, longer than `memory`.
    memory
        Bins after which the model overwrites the oldest that it remembers: errors before and
        after are told apart as `cold` and `wrapped`.
    spreads
        Output to (n,) standard deviations of its channels in the data, where they are known.

    Raises
    ------
    ModelError
        Rates differ by more than `TOLERANCE` of the rate, or another output by more than
        `TOLERANCE` of its spread; see `relative_errors`.
    """
    plain = _with_in_place(contract, frozenset())
    found = [run(step, plain, stretch.counts) for stretch in stretches]
    parity: dict[str, Any] = {"tolerance": TOLERANCE, "bins": sum(len(s.counts) for s in stretches)}
    for port in contract.outputs:
        errors = relative_errors(port, found, stretches, (spreads or {}).get(port.name))
        parity[port.name] = {
            "cold": float(errors[:, :memory].max()),
            "wrapped": float(errors[:, memory:].max()),
        }
        if not errors.max() <= TOLERANCE:
            number, bin_ = np.unravel_index(errors.argmax(), errors.shape)
            raise ModelError(
                f"{contract.name}: '{port.name}' of the exported step differs from the full run by"
                f" {errors.max():.1e} of its size (bin {bin_} of stretch {number}), where"
                f" {TOLERANCE:g} is allowed; nothing was written. Please report this, with the"
                " run's folder."
            )
    return msgspec.structs.replace(find_in_place(step, plain, stretches[0].counts), parity=parity)


def relative_errors(
    port: Port,
    found: Sequence[Outputs],
    stretches: Sequence[Stretch],
    spread: NDArray[np.float32] | None = None,
) -> NDArray[np.float64]:
    """Return the largest error in each bin of each stretch, (stretches, bins).

    An error of a rate is relative to that rate, one of probabilities of keys is as it is, and one
    of another output is relative to the standard deviation of its channel over all stretches. Of a
    model that decodes next to nothing that is next to nothing, and float32 does not resolve it: a
    tenth of the `spread` of the data is the least.
    """
    expected = np.stack([s.expected[port.name] for s in stretches])
    size = np.abs(expected)
    if port.kind == "keys":
        size = np.ones_like(size)
    elif port.kind != "rates":
        least = 1e-12 if spread is None else 0.1 * spread
        size = np.maximum(expected.std(axis=(0, 1)), least)
    difference = np.abs(np.stack([f[port.name] for f in found]) - expected)
    return np.asarray((difference / size).max(axis=tuple(range(2, difference.ndim))))


def find_in_place(step: StepGraph, contract: Contract, counts: NDArray[np.float32]) -> Contract:
    """Mark the states for which one buffer as old and new state changes no bit of any output."""
    reference = run(step, _with_in_place(contract, frozenset()), counts)

    def same(names: frozenset[str]) -> bool:
        found = run(step, _with_in_place(contract, names), counts)
        return all(np.array_equal(found[name], reference[name]) for name in reference)

    names = frozenset(state.input for state in contract.states)
    if not same(names):
        names = frozenset(name for name in names if same(frozenset({name})))
        if not same(names):
            names = frozenset()
    return _with_in_place(contract, names)


def _with_in_place(contract: Contract, names: frozenset[str]) -> Contract:
    states = tuple(
        msgspec.structs.replace(state, in_place=state.input in names) for state in contract.states
    )
    return msgspec.structs.replace(contract, states=states)
