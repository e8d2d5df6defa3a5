"""A sweep over settings that stops those early from which nothing is to be expected.

Every setting is trained a little. Then the promising ones are trained to their end, one after the
other; from those that are through, a Gaussian process learns what early loss, settings and the
early Lyapunov spectrum say of the final loss, and the sweep ends as soon as none that is left is
likely to be better than the best.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from models.lyapunov.prediction import gaussian_process, summarise
from models.lyapunov.spectrum import lyapunov_spectrum
from models.lyapunov.steps import gru_baseline_step
from models.spikes.dataset import SpikeData
from models.spikes.gru import GRU
from models.spikes.recipe import Recipe, untrained
from models.spikes.training import fit
from stream.errors import ConfigError
from stream.stability.drives import cut_sequences

Array = NDArray[np.float64]
EARLY_SHARE = 1 / 6
"""Share of the updates after which a setting is judged."""
_FIRST = 4
_EXPONENTS, _SEQUENCES, _STEPS, _WARM_UP = 32, 2, 120, 40


@dataclass(frozen=True)
class Setting:
    """What differs from network to network of a sweep."""

    hidden: int
    learning_rate: float
    dropout: float


@dataclass
class Trial:
    """One setting on its way.

    Attributes
    ----------
    setting
        Of this network.
    early_loss, largest_exponent, features
        Validation loss, largest Lyapunov exponent (nats a bin) and what is predicted from, when it
        was judged.
    early_s, rest_s
        Seconds that training took until then, and afterwards; None if it was stopped.
    loss
        Lowest validation loss; None if it was stopped.
    """

    setting: Setting
    early_loss: float
    largest_exponent: float
    features: Array
    early_s: float
    rest_s: float | None = None
    loss: float | None = None


def grid(
    hidden: Sequence[int], learning_rate: Sequence[float], dropout: Sequence[float]
) -> list[Setting]:
    """Return every combination."""
    return [Setting(*values) for values in itertools.product(hidden, learning_rate, dropout)]


def recipe_of(setting: Setting, recipe: Recipe) -> Recipe:
    """Return a recipe of `gru` with a setting in it."""
    return replace(
        recipe,
        network={"hidden": setting.hidden, "dropout": setting.dropout},
        training=replace(recipe.training, learning_rate=setting.learning_rate),
    )


class Sweep:
    """Trains the GRU on spikes with several settings.

    Parameters
    ----------
    recipe
        What the settings have in common.
    train, validation
        Parts of a recording.
    inputs
        (n_in,) columns that are fed in.
    folder
        For what is needed to go on with a training.
    """

    def __init__(
        self,
        recipe: Recipe,
        train: SpikeData,
        validation: SpikeData,
        inputs: NDArray[np.int64],
        folder: Path,
    ) -> None:
        self.recipe, self.train, self.validation = recipe, train, validation
        self.inputs, self.folder = inputs, folder
        every, updates = recipe.training.check_every, recipe.training.updates
        self.early = max(round(EARLY_SHARE * updates / every), 1) * every

    def begin(self, setting: Setting) -> Trial:
        """Train a setting until it can be judged."""
        began = time.perf_counter()
        network, loss = self._fit(setting, self.early)
        early_s = time.perf_counter() - began
        spectrum = self._spectrum(network)
        figures = summarise(spectrum.mean(axis=0, keepdims=True))[0]
        own = [np.log(setting.hidden), np.log(setting.learning_rate), setting.dropout]
        features = np.array([loss, *own, *figures])
        return Trial(setting, loss, float(figures[0]), features, early_s)

    def finish(self, trial: Trial) -> float:
        """Train a setting to its end, and return its loss."""
        began = time.perf_counter()
        trial.loss = self._fit(trial.setting, None)[1]
        trial.rest_s = time.perf_counter() - began
        return trial.loss

    def _fit(self, setting: Setting, pause_at: int | None) -> tuple[GRU, float]:
        recipe = recipe_of(setting, self.recipe)
        name = "-".join(str(value) for value in asdict(setting).values())
        network = untrained(recipe, self.train, self.inputs)
        found = fit(
            network, self.train, self.validation, self.inputs, recipe.training,
            checkpoint=self.folder / f"{name}.pt", pause_at=pause_at,
        )  # fmt: skip
        assert isinstance(network, GRU)
        return network, found.best_loss

    def _spectrum(self, network: GRU) -> Array:
        counts = self.validation.counts[:, self.inputs]
        fed = cut_sequences(counts, _SEQUENCES, _WARM_UP + _STEPS)
        found = lyapunov_spectrum(
            gru_baseline_step(network), torch.zeros(network.config.hidden), torch.from_numpy(fed),
            k=min(_EXPONENTS, network.config.hidden), warm_up=_WARM_UP,
        )  # fmt: skip
        return found.exponents


def finish_promising(
    features: Array, early_loss: Array, finish: Callable[[int], float]
) -> Iterator[int]:
    """Finish settings in order of promise, until none that is left is likely to be the best.

    Of four, spread from the best early loss to the worst, the first predictions are learned.

    Parameters
    ----------
    features
        (settings, m) known of each.
    early_loss
        (settings,) validation losses; a setting whose loss is not finite diverged, and is left.
    finish
        Trains a setting to its end and returns its loss.

    Yields
    ------
    int
        Each setting that was finished.

    Raises
    ------
    ConfigError
        All settings diverged.
    """
    able = [int(i) for i in np.argsort(early_loss) if np.isfinite(early_loss[i])]
    n = len(able)
    if not n:
        raise ConfigError(
            f"none of {len(features)} settings learned anything: every validation loss became"
            " infinite or NaN; try lower learning rates, or look for odd values in the recording."
        )
    ranks = np.unique(np.linspace(0, n - 1, min(_FIRST, n)).astype(int))
    losses: dict[int, float] = {}
    for i in [able[rank] for rank in ranks]:
        losses[i] = finish(i)
        yield i
    while len(losses) < n:
        known, left = list(losses), [i for i in able if i not in losses]
        model: Any = gaussian_process()
        with warnings.catch_warnings():
            # With few settings a length may run to its bound, which does no harm.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features[known], np.array([losses[i] for i in known]))
        mean, spread = model.predict(features[left], return_std=True)
        hoped = mean - spread
        if hoped.min() >= min(losses.values()):
            return
        chosen = left[int(hoped.argmin())]
        losses[chosen] = finish(chosen)
        yield chosen


def time_of_all(trials: Sequence[Trial]) -> tuple[float, float]:
    """Return the seconds that training took, and those that training all would have taken.

    What was stopped is taken to need as long for an update until the end as it did before, times
    the ratio of both that the finished ones had: those that stop by themselves make it less.
    """
    finished = [t for t in trials if t.rest_s is not None]
    spent = sum(t.early_s + (t.rest_s or 0.0) for t in trials)
    ratio = sum(t.rest_s or 0.0 for t in finished) / sum(t.early_s for t in finished)
    stopped = sum(t.early_s for t in trials if t.rest_s is None)
    return spent, spent + ratio * stopped
