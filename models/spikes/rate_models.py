"""Trained models as `evaluate` sees them: from the bins of a recording to rates and behaviour."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from models.spikes.baselines.fitting import RATES
from models.spikes.baselines.storing import Baseline
from models.spikes.dataset import SpikeData
from models.spikes.gru import GRU
from models.spikes.trained import load_trained
from models.spikes.training import infer
from models.stndt.streaming import Layer, StreamingSTNDT
from stream.errors import ModelError
from stream.inference import StreamingSession
from stream.model_file import Port
from stream.spikes.selection import select_units

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """What a model makes of a part of a recording.

    Attributes
    ----------
    counts
        (bins, units) expected counts per bin in the order of the data's units; NaN where the model
        says nothing.
    behaviour
        (bins, d) decoded, d 0 without.
    """

    counts: Floats
    behaviour: Floats


class RateModel(Protocol):
    """A trained model, wherever it lies.

    Attributes
    ----------
    name
        Shown in the table.
    width_s
        Width of the bins that it was trained on.
    inputs
        Names of the units that it is fed.
    outputs
        Names of the units whose rates it gives.
    columns
        Names of the columns that it decodes, empty for nothing.
    behaviour
        Name of the behaviour that these are columns of, empty when the model does not say.
    """

    name: str
    width_s: float
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    columns: tuple[str, ...]
    behaviour: str

    def run(self, data: SpikeData) -> Estimate:
        """Run from a cold state, afresh at every segment."""

    def attention(self, data: SpikeData) -> Floats | None:
        """Return the spatial attention (outputs, outputs), None without."""


class ModelFile:
    """An `.onnx` stepped bin by bin in ONNX Runtime, as the `model` node steps it live.

    Raises
    ------
    ModelError
        The file is no model file, or none from counts to rates.
    """

    def __init__(self, path: Path) -> None:
        self._session = StreamingSession(path, "cpu")
        contract = self._session.contract
        ports = {port.kind: port for port in contract.outputs}
        fed = contract.inputs[0]
        if len(contract.inputs) != 1 or fed.kind != "counts" or not ports.keys() <= _OUTPUTS:
            raise ModelError(
                f"{path} does not turn spike counts into rates or behaviour, so there is nothing to"
                " evaluate here."
            )
        if fed.period_s is None:
            raise ModelError(f"{path} does not say how wide its bins are; export it again.")
        self._fed, self._ports = fed, ports
        self._delay = contract.delay_steps
        self.name = contract.name
        self.width_s = fed.period_s
        self.inputs = fed.channels
        self.outputs = ports["rates"].channels if "rates" in ports else ()
        self.columns = ports["behaviour"].channels if "behaviour" in ports else ()
        self.behaviour = str(contract.training.get("behaviour") or "")

    def run(self, data: SpikeData) -> Estimate:
        """Step through the data; an output `delay_steps` later counts for its own bin."""
        fed = data.counts[:, select_units(data.units, self.inputs, data.name)]
        fed = fed.astype(self._fed.dtype)
        steps: dict[str, Floats] = {
            kind: np.full((len(fed), *port.shape), np.nan) for kind, port in self._ports.items()
        }
        for segment in segment_runs(data.segment):
            self._session.reset()
            for t in segment:
                values = self._session.step({self._fed.name: fed[t]})
                if (at := t - self._delay) >= segment.start:
                    for kind, port in self._ports.items():
                        steps[kind][at] = values[port.name]
        counts = np.full(data.counts.shape, np.nan)
        if "rates" in steps:
            columns = select_units(data.units, self.outputs, data.name)
            counts[:, columns] = steps["rates"] * _per_bin(self._ports["rates"], self.width_s)
        return Estimate(counts, steps.get("behaviour", np.zeros((len(fed), 0))))

    def attention(self, data: SpikeData) -> None:
        """Return nothing: in the file the matrix is multiplied into other weights."""


class TrainedFolder:
    """A trained network or a baseline in its folder, run whole in PyTorch or NumPy.

    Raises
    ------
    ModelError
        The folder holds no readable training.
    """

    def __init__(self, folder: Path) -> None:
        self._trained = load_trained(folder)
        card = self._trained.card
        self.name = folder.name or card.system
        self.width_s = card.width_s
        self.inputs, self.outputs = card.inputs, card.outputs
        self.columns, self.behaviour = card.columns, card.behaviour

    def run(self, data: SpikeData) -> Estimate:
        """Run all bins at once, which gives what single steps give."""
        fed = select_units(data.units, self.inputs, data.name)
        told = np.empty(0, np.int64)
        if self.outputs:
            told = select_units(data.units, self.outputs, data.name)
        network = self._trained.network
        if not isinstance(network, StreamingSTNDT | GRU):
            return run_baseline(network, self._trained.card.system, data, fed, told)
        seen = dataclasses.replace(data, counts=data.counts[:, fed])
        rates, behaviour = infer(network, seen, np.arange(len(fed)))
        counts = np.full(data.counts.shape, np.nan)
        counts[:, told] = rates
        return Estimate(counts, behaviour)

    def attention(self, data: SpikeData) -> Floats | None:
        """Return the mean over up to 1000 bins."""
        network = self._trained.network
        if not isinstance(network, StreamingSTNDT) or network.config.spatial == "none":
            return None
        layer = network.layers[0]
        assert isinstance(layer, Layer)
        fed = select_units(data.units, self.inputs, data.name)
        run = max(segment_runs(data.segment), key=len)[:1000]
        state, total = network.start(), np.zeros((network.config.n_out,) * 2)
        for position, t in enumerate(run):
            state = network.step(torch.from_numpy(data.counts[t, fed]), state)[2]
            total += layer.spatial_matrix(state, position).detach().double().numpy()
        return total / len(run)


_OUTPUTS = {"rates", "behaviour"}


def run_baseline(
    model: Baseline,
    system: str,
    data: SpikeData,
    fed: NDArray[np.int64],
    told: NDArray[np.int64],
) -> Estimate:
    """Run a baseline, given the columns of the units that it is fed and of those that it tells."""
    values = model.predict(data.counts[:, fed], data.segment)
    counts = np.full(data.counts.shape, np.nan)
    if system not in RATES:
        return Estimate(counts, values)
    counts[:, told] = values
    return Estimate(counts, np.zeros((len(values), 0)))


def load_model(path: Path) -> RateModel:
    """Return the model of an `.onnx` file, or the trained network of a folder.

    Raises
    ------
    ModelError
        There is no such model, or none from counts to rates.
    """
    return TrainedFolder(path) if path.is_dir() else ModelFile(path)


def _per_bin(port: Port, width_s: float) -> float:
    if port.unit != "Hz":
        raise ModelError(f"'{port.name}' is in '{port.unit}', expected rates in Hz.")
    return width_s


def segment_runs(segment: NDArray[np.int64]) -> Iterator[range]:
    """Yield the bins of each segment."""
    edges = [0, *(np.flatnonzero(np.diff(segment)) + 1).tolist(), len(segment)]
    yield from (range(a, b) for a, b in itertools.pairwise(edges))
