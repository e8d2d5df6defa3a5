"""From a trained network to one verified model file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from exporters.baselines import baseline_step
from exporters.gru import gru_step
from exporters.model_writer import write_model
from exporters.onnx_graph import StepGraph
from exporters.stability import comparable, with_stability
from exporters.stndt import streaming_step
from exporters.verify import Stretch, cut_stretches, find_in_place, relative_errors, run, verify
from models.spikes.baselines.glm import PoissonGlm
from models.spikes.baselines.kalman import Kalman
from models.spikes.baselines.mlp import Mlp
from models.spikes.baselines.smoothing import Smoothing
from models.spikes.baselines.storing import Baseline
from models.spikes.baselines.wiener import Wiener
from models.spikes.gru import GRU
from models.stndt.streaming import StreamingConfig, StreamingSTNDT
from stream.model_file import Contract, Port, Score

Weights = Literal["int8", "int4"]
_BITS: dict[str, int] = {"int8": 8, "int4": 4}
_SHORT_MEMORY_BINS = 64
_PREPROCESSING: dict[type, str] = {
    StreamingSTNDT: "log(1 + counts), standardised, with exponential averages",
    GRU: "log(1 + counts), standardised",
    Smoothing: "none",
    PoissonGlm: "log(1 + exponential averages of counts)",
    Wiener: "counts less their mean",
    Mlp: "square roots of counts, standardised",
    Kalman: "square roots of counts less their mean",
}


@dataclass(frozen=True)
class Description:
    """What a file says that its network does not know.

    Attributes
    ----------
    name, version
        Of the model.
    inputs, outputs
        Names of the units that it is fed and of those whose rates it gives.
    width_s
        Width of a bin.
    columns, behaviour_unit
        Names of what it decodes, and their unit.
    trained_on, training, scores
        As in `stream.model_file.Contract`.
    """

    name: str
    version: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    width_s: float
    columns: tuple[str, ...] = ()
    behaviour_unit: str = ""
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: tuple[Score, ...] = ()


def export_network(
    network: StreamingSTNDT | GRU,
    description: Description,
    counts: NDArray[np.float32],
    path: Path,
    *,
    weights: Weights | None = None,
    score: Callable[[Path], Mapping[str, float]] | None = None,
    allow_unstable: bool = False,
) -> Contract:
    """Write the model file of a network, once it is verified on real counts.

    With `weights`, the graph in float32 is verified, and what the integers change and cost is
    measured beside it.

    Parameters
    ----------
    network
        Trained.
    description
        Of the network and its data.
    counts
        (bins, units fed) counts of the data that it was trained on.
    path
        Of the new file; an old one stays as it is unless all goes well.
    weights
        Store weights as integers of 8 or 4 bits.
    score
        Returns what a model file is worth, such as its co-bps: asked of the file in float32 and of
        the one with integers, which then holds its own figures and the differences.
    allow_unstable
        Write an unstable network too; see `exporters.stability`.

    Raises
    ------
    ModelError
        The network has no streaming form, the exported step differs from the network, it is
        unstable, or the file cannot be written.
    """
    step = _step(network, description.width_s, None)
    memory, delay_steps = _SHORT_MEMORY_BINS, 0
    if isinstance(network, StreamingSTNDT):
        memory, delay_steps = _memory(network.config), network.config.look_ahead
    contract = _contract(description, step, _preprocessing(network), delay_steps)
    expected = [
        Stretch(part, _full_run(network, part, description.width_s))
        for part in cut_stretches(counts, 3 * memory + _SHORT_MEMORY_BINS)
    ]
    spreads = {"behaviour": network.scales.behaviour_std.numpy()}
    contract = with_stability(step, contract, counts, allow_unstable=allow_unstable)
    expected, memory = comparable(expected, memory, contract)
    contract = verify(step, contract, expected, memory, spreads)
    facts: dict[str, Any] = {"against": f"full run in PyTorch {torch.__version__}"}
    if weights is not None:
        plain, verified = step, contract
        step = _step(network, description.width_s, _BITS[weights])
        contract = with_stability(step, contract, counts, allow_unstable=allow_unstable)
        contract = find_in_place(step, contract, expected[0].counts)
        facts["quantised"] = _change(step, contract, expected[:-1], weights)
        if score is not None:
            before, after = _scored(plain, verified, score), _scored(step, contract, score)
            facts["quantised"]["gained"] = {name: after[name] - before[name] for name in after}
            contract = msgspec.structs.replace(contract, scores=_as_scores(after, description))
    contract = _with_parity(contract, **facts)
    write_model(step.model, contract, path)
    return contract


def export_baseline(
    model: Baseline, description: Description, counts: NDArray[np.float32], path: Path,
    *, allow_unstable: bool = False,
) -> Contract:  # fmt: skip
    """Write the model file of a baseline; see `export_network`."""
    step = baseline_step(model, description.width_s)
    contract = _contract(description, step, _preprocessing(model), 0)
    (port,) = contract.outputs
    scale = description.width_s if port.kind == "rates" else 1.0
    stretches = [
        Stretch(part, {port.name: model.predict(part, np.zeros(len(part), np.int64)) / scale})
        for part in cut_stretches(counts, 3 * _SHORT_MEMORY_BINS)
    ]
    contract = with_stability(step, contract, counts, allow_unstable=allow_unstable)
    contract = verify(step, contract, *comparable(stretches, _SHORT_MEMORY_BINS, contract))
    contract = _with_parity(contract, against="NumPy in float64")
    write_model(step.model, contract, path)
    return contract


def _memory(config: StreamingConfig) -> int:
    """Return the length of the longest ring."""
    return max(config.window, config.course) if config.spatial == "exact" else config.window


def _step(network: StreamingSTNDT | GRU, width_s: float, bits: int | None) -> StepGraph:
    if isinstance(network, GRU):
        return gru_step(network, width_s, bits)
    return streaming_step(network, width_s, bits)


def _scored(
    step: StepGraph, contract: Contract, score: Callable[[Path], Mapping[str, float]]
) -> Mapping[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_model(step.model, contract, path)
        return score(path)


def _as_scores(values: Mapping[str, float], description: Description) -> tuple[Score, ...]:
    data = str(description.trained_on.get("name", ""))
    return tuple(
        Score(metric=metric, value=value, data=data, split="test")
        for metric, value in values.items()
    )


def _preprocessing(model: object) -> str:
    return next(text for kind, text in _PREPROCESSING.items() if isinstance(model, kind))


def _with_parity(contract: Contract, **facts: Any) -> Contract:
    return msgspec.structs.replace(contract, parity=contract.parity | facts)


def _contract(
    description: Description, step: StepGraph, preprocessing: str, delay_steps: int
) -> Contract:
    d = description
    fed = Port(
        name="counts", kind="counts", shape=(len(d.inputs),), axes=("unit",), unit="count",
        channels=d.inputs, period_s=d.width_s,
    )  # fmt: skip
    made = {output.name for output in step.model.graph.output}
    outputs = [
        Port(
            name=kind, kind=kind, shape=(len(channels),), axes=(axis,), unit=unit,
            channels=channels, period_s=d.width_s,
        )
        for kind, axis, unit, channels in (
            ("rates", "unit", "Hz", d.outputs),
            ("behaviour", "column", d.behaviour_unit, d.columns),
        )
        if kind in made
    ]  # fmt: skip
    return Contract(
        name=d.name,
        version=d.version,
        task=" and ".join(port.kind for port in outputs),
        inputs=(fed,),
        outputs=tuple(outputs),
        states=step.states,
        delay_steps=delay_steps,
        preprocessing={"counts": preprocessing, "where": "inside the graph"},
        trained_on=dict(d.trained_on),
        training=dict(d.training),
        scores=d.scores,
    )


@torch.no_grad()
def _full_run(
    network: StreamingSTNDT | GRU, counts: NDArray[np.float32], width_s: float
) -> dict[str, NDArray[np.float64]]:
    network.eval()
    segment = torch.zeros(1, len(counts), dtype=torch.long)
    log_counts, behaviour = network(torch.from_numpy(counts)[None], segment)
    return {
        "rates": log_counts[0].double().exp().numpy() / width_s,
        "behaviour": behaviour[0].double().numpy(),
    }


def _change(
    step: StepGraph, contract: Contract, stretches: Sequence[Stretch], weights: Weights
) -> dict[str, Any]:
    """Return how far outputs of a quantised step lie from the network's.

    That is, for each output, the largest relative error in a bin: its median and its largest value
    over bins.
    """
    change: dict[str, Any] = {"weights": weights}
    found = [run(step, contract, s.counts) for s in stretches]
    for port in contract.outputs:
        errors = relative_errors(port, found, stretches)
        change[port.name] = {"median": float(np.median(errors)), "largest": float(errors.max())}
    return change
