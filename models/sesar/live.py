"""A recogniser as it runs live: tick by tick, and at several frame rates."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.sesar.dataset import BACKGROUND, CLASSES, Sequences
from models.sesar.evaluation import Recogniser, judge_streams
from models.sesar.network import PERIOD_S
from models.sesar.streams import Streams
from models.sesar.trained import load_trained
from stream.errors import ModelError
from stream.inference import StreamingSession
from stream.model_file import read_contract
from stream.units import to_ns
from stream.vision.actions import ActionsSettings, Debounce, thresholds
from stream.vision.motion import Clock

_HOLE_NS = to_ns(1.0)
_CANDIDATES = (0.51, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_PRICE = 0.01


class StreamedModel:
    """A model file as a recogniser of whole clips: each is stepped tick by tick from cold."""

    def __init__(self, path: Path) -> None:
        self._session = StreamingSession(path, "cpu")
        contract = self._session.contract
        if contract.outputs[0].channels != CLASSES:
            raise ModelError(f"{path} ({contract.name}) does not tell the actions of NW-UCLA.")
        (self._port,) = contract.inputs

    def __call__(self, joints: Tensor) -> Tensor:
        """Return probabilities (clips, ticks, classes) of joints (clips, ticks, 20, 3)."""
        rows = []
        for clip in joints.numpy():
            self._session.reset()
            steps = [self._session.step({self._port.name: pose}) for pose in clip]
            rows.append(np.stack([step["probabilities"] for step in steps]))
        return torch.from_numpy(np.stack(rows))


def load_recogniser(path: Path) -> Recogniser:
    """Read a model file, or the folder of a training.

    Raises
    ------
    ModelError
        There is neither.
    """
    return load_trained(path).network if path.is_dir() else StreamedModel(path)


def ticks(joints: NDArray[np.float32], fps: float, kept: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return poses on the clock (ticks, 20, 3) of the frames that are kept, as they come live."""
    clock = Clock(to_ns(PERIOD_S), _HOLE_NS)
    found: list[NDArray[np.float32]] = []
    for number in np.flatnonzero(kept):
        found += [pose for _, pose in clock.push(to_ns(number / fps), joints[number])]
    return np.stack(found)


def load_threshold(path: Path) -> float | None:
    """Return the calibrated threshold of a model file, or of the folder of a training.

    Raises
    ------
    ModelError
        There is neither.
    """
    return load_trained(path).card.threshold if path.is_dir() else read_contract(path).threshold


def debounced(
    probabilities: NDArray[np.float32], threshold: float | None = None
) -> NDArray[np.int64]:
    """Return the label of each tick as `actions` with its defaults gives it, (ticks,)."""
    s = ActionsSettings()
    debounce = Debounce(BACKGROUND, *thresholds(s, threshold), to_ns(s.hold))
    found = np.full(len(probabilities), BACKGROUND, np.int64)
    for tick, p in enumerate(probabilities[:, :BACKGROUND]):
        debounce.push(to_ns(tick * PERIOD_S), p)
        if debounce.label is not None:
            found[tick] = debounce.label
    return found


def fit_threshold(probabilities: Tensor, streams: Streams) -> float:
    """Return the probability from which a class is to be believed, 0.51 to 0.95.

    Of probabilities (streams, ticks, classes), it is the highest one whose labels, as `actions`
    gives them, come within 0.01 of the best macro F1: a higher one saves wrong labels between
    actions, until it costs right ones.
    """
    f1 = [
        judge_streams(probabilities, streams, partial(debounced, threshold=threshold)).macro_f1
        for threshold in _CANDIDATES
    ]
    return max(t for t, f in zip(_CANDIDATES, f1, strict=True) if f >= max(f1) - _PRICE)


@torch.no_grad()
def rate_agreement(network: Recogniser, sequences: Sequences, every: int, lost: float) -> float:
    """Return the share of ticks with the same likeliest class when frames are missing.

    Parameters
    ----------
    sequences
        Run whole, and again with frames missing.
    every
        Of so many frames one is kept, the first among them.
    lost
        Share of the others that is dropped at random.
    """
    random = np.random.default_rng(0)
    same = total = 0
    for number in range(len(sequences)):
        joints, fps = sequences.joints(number), float(sequences.fps[number])
        kept = np.arange(len(joints)) % every == 0
        kept[1:] &= random.random(len(joints) - 1) >= lost
        labels = []
        for mask in (np.ones(len(joints), bool), kept):
            poses = torch.from_numpy(ticks(joints, fps, mask))
            labels.append(network(poses[None])[0].argmax(-1))
        n = min(map(len, labels))
        same += int((labels[0][:n] == labels[1][:n]).sum())
        total += n
    return same / total
