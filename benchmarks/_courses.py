"""Trials that repeat one another, found without labels, and the course of the rates in each group.

Trials are first grouped by the log rates that a network estimates (Ward's method). All trials of a
group have the same rates, and the log rates of all groups lie in the same few dimensions::

    counts of trial n, bin t, unit u ~ Poisson(exp(z_t C + b)_u), with the z of the group of n
    z, C, b: largest log-likelihood, less smooth / 2 times the squared second differences of z C

Each trial then moves to the group under whose course its counts are likeliest, and the courses are
fitted again, until no trial moves. How many groups and dimensions there are and how smooth courses
are is chosen on trials held back: parts of them are hidden, and the courses, weighed by how likely
they make what is seen, forecast them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

from stream.spikes.recording import Floats

Forecast = Callable[[Tensor, Tensor], Tensor]
"""From counts (trials, bins, units), zero where hidden, and which are seen, to expected counts."""

_REGROUPINGS = 10
_STEPS = 60
_TURNS = 8


@dataclass(frozen=True)
class CourseSettings:
    """How many groups are looked for, dimensions of the log rates, strength of the smoothing."""

    groups: int = 16
    rank: int = 4
    smooth: float = 10.0


CHOICES: dict[str, Sequence[float]] = {
    "groups": (2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128),
    "rank": (2, 3, 4, 6, 8),
    "smooth": (1.0, 3.0, 10.0, 30.0, 100.0),
}  # fmt: skip


@dataclass(frozen=True)
class Courses:
    """Groups of trials.

    Attributes
    ----------
    group
        (trials,) number of the group of each trial.
    log_counts
        (groups, bins, units) log expected counts.
    """

    group: NDArray[np.int64]
    log_counts: Tensor

    def of_trials(self) -> Floats:
        """Return the expected counts of all bins of the trials, (trials x bins, units)."""
        return self.log_counts[self.group].double().exp().flatten(0, 1).numpy()

    def forecast(self, counts: Tensor, seen: Tensor) -> Tensor:
        """See `Forecast`."""
        expected = self.log_counts.exp()
        likelihood = torch.einsum("ntu,gtu->ng", counts * seen, self.log_counts)
        likelihood -= torch.einsum("ntu,gtu->ng", seen.to(expected.dtype), expected)
        weight = (likelihood + self._share().log()).softmax(1)
        return torch.einsum("ng,gtu->ntu", weight, expected)

    def regrouped(self, counts: Tensor) -> NDArray[np.int64]:
        """Return the group that makes the counts of each trial likeliest."""
        likelihood = torch.einsum("ntu,gtu->ng", counts, self.log_counts)
        likelihood -= self.log_counts.exp().sum((1, 2))
        return (likelihood + self._share().log()).argmax(1).numpy()

    def _share(self) -> Tensor:
        sizes = np.bincount(self.group, minlength=len(self.log_counts))
        return torch.from_numpy(sizes / sizes.sum()).to(self.log_counts.dtype)


def find_courses(counts: Tensor, log_counts: Tensor, settings: CourseSettings) -> Courses:
    """Group trials and fit the course of each group.

    Parameters
    ----------
    counts
        (trials, bins, units) float32.
    log_counts
        Of the same shape, as a network estimates them; trials are compared by them at first.
    settings
        No group stays empty, so there can be fewer than asked for.
    """
    tree = linkage(log_counts.flatten(1).numpy(), "ward")
    group = fcluster(tree, settings.groups, "maxclust").astype(np.int64) - 1
    start = _sums(log_counts, group) / _sums(torch.ones(len(group), 1, 1), group)
    courses = Courses(group, _fit(counts, group, start, settings))
    for _ in range(_REGROUPINGS):
        likeliest = courses.regrouped(counts)
        if (likeliest == courses.group).all():
            break
        kept, group = np.unique(likeliest, return_inverse=True)
        courses = Courses(group, _fit(counts, group, courses.log_counts[kept], settings))
    return courses


def choose(counts: Tensor, log_counts: Tensor, held_back: Tensor) -> tuple[CourseSettings, float]:
    """Return the settings with the lowest `hidden_loss` on trials held back, and that loss.

    One setting after another, as `CHOICES` lists them.
    """
    best, losses = CourseSettings(), {}
    for name, values in CHOICES.items():
        tried = [replace(best, **{name: value}) for value in values]
        for settings in tried:
            if settings not in losses:
                courses = find_courses(counts, log_counts, settings)
                losses[settings] = hidden_loss(courses.forecast, held_back)
        best = min(tried, key=losses.__getitem__)
    return best, losses[best]


@torch.no_grad()
def hidden_loss(forecast: Forecast, counts: Tensor) -> float:
    """Return the Poisson loss per entry of counts, each hidden once: an eighth at a time."""
    turn = torch.randint(_TURNS, counts.shape, generator=torch.Generator().manual_seed(0))
    total = 0.0
    for now in range(_TURNS):
        seen = turn != now
        expected = forecast(counts * seen, seen)
        total += float((expected - counts * expected.log())[~seen].sum())
    return total / counts.numel()


def _fit(
    counts: Tensor, group: NDArray[np.int64], start: Tensor, settings: CourseSettings
) -> Tensor:
    """Return log expected counts of each group, by L-BFGS from those of `start`."""
    summed, trials = _sums(counts, group), _sums(torch.ones(len(group), 1, 1), group)
    level = start.mean((0, 1))
    u, s, v = torch.linalg.svd((start - level).flatten(0, 1), full_matrices=False)
    root = s[: settings.rank].sqrt()
    course = (u[:, : settings.rank] * root).unflatten(0, start.shape[:2])
    # L-BFGS wants parameters that lie in one piece, which factors of a decomposition may not.
    parts = [
        part.contiguous().requires_grad_()
        for part in (course, root[:, None] * v[: settings.rank], level)
    ]
    optimiser = torch.optim.LBFGS(
        parts, max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        course, weights, level = parts
        log_counts = course @ weights + level
        bend = course.diff(n=2, dim=1)
        rough = ((bend @ (weights @ weights.T)) * bend).sum()
        nll = (trials * log_counts.exp() - summed * log_counts).sum()
        value = (nll + settings.smooth / 2 * rough) / len(group)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)
    course, weights, level = (part.detach() for part in parts)
    return course @ weights + level


def _sums(values: Tensor, group: NDArray[np.int64]) -> Tensor:
    """Return the sum over the trials of each group."""
    sums = values.new_zeros(int(group.max()) + 1, *values.shape[1:])
    return sums.index_add(0, torch.from_numpy(group), values)
