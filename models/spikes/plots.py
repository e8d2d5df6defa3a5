"""Pictures of an evaluation, written as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.spikes.dataset import SpikeData
from models.spikes.evaluation import Evaluation
from models.spikes.rate_models import Estimate

Floats = NDArray[np.float64]

SHOWN_S = 10.0
SHOWN_UNITS = 6
SHOWN_CONDITIONS = 8


def write_plots(
    evaluation: Evaluation,
    folder: Path,
    attention: Floats | None = None,
    attended: Sequence[str] = (),
) -> list[Path]:
    """Draw everything that an evaluation has, and return the files.

    Parameters
    ----------
    evaluation
        What was measured.
    folder
        Made if it is not there.
    attention
        Spatial attention (units, units), rows sum to one.
    attended
        Names of its units.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data, estimate = evaluation.data, evaluation.estimate
    figures: dict[str, Figure] = {}
    if not np.isnan(estimate.counts).all():
        figures["rates"] = rates_against_spikes(data, estimate)
    if evaluation.psths is not None:
        told = np.flatnonzero(~np.isnan(estimate.counts).all(axis=0))
        names = [data.units[i] for i in told]
        figures["psths"] = psths(*evaluation.psths, names, data.width_s)
    if estimate.behaviour.shape[1]:
        figures["behaviour"] = decoded_behaviour(data, estimate)
    if attention is not None:
        figures["spatial_attention"] = spatial_attention(attention, attended)
    written = []
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        FigureCanvasAgg(figure)
        figure.savefig(path, dpi=110)
        written.append(path)
    return written


def busiest(values: Floats, n: int) -> list[int]:
    """Return the columns with the highest sums."""
    return np.argsort(-np.nansum(values, axis=0), kind="stable")[:n].tolist()  # type: ignore[no-any-return]


def _shown(data: SpikeData) -> tuple[slice, Floats, Floats]:
    """Return the first bins of the data, their edges in s, and where segments begin."""
    bins = slice(0, min(round(SHOWN_S / data.width_s), len(data.counts)))
    borders = np.flatnonzero(np.diff(data.segment[bins])) + 1
    edges = np.arange(bins.stop + 1, dtype=np.float64) * data.width_s
    return bins, edges, edges[borders]


def _mark(axis: Axes, borders: Floats) -> None:
    for border in borders:
        axis.axvline(border, color="0.6", lw=0.6, ls=":")


def rates_against_spikes(data: SpikeData, estimate: Estimate) -> Figure:
    """Draw estimated rates over counted spikes, and the true rates where they are known."""
    shown, edges, borders = _shown(data)
    counts = np.where(np.isnan(estimate.counts).all(axis=0), 0, data.counts[shown])
    time = edges[:-1] + data.width_s / 2
    figure = Figure(figsize=(9, 1.3 * SHOWN_UNITS), layout="constrained")
    axes = figure.subplots(min(SHOWN_UNITS, counts.shape[1]), 1, sharex=True, squeeze=False)[:, 0]
    for axis, unit in zip(axes, busiest(counts.astype(np.float64), SHOWN_UNITS), strict=False):
        axis.stairs(
            counts[:, unit] / data.width_s, edges, fill=True, color="0.82", label="spikes / bin"
        )
        if data.true_rates is not None:
            axis.plot(time, data.true_rates[shown, unit] / data.width_s, "k", lw=1, label="true")
        rate = estimate.counts[shown, unit] / data.width_s
        axis.plot(time, rate, "C3", lw=1.2, label="estimated")
        _mark(axis, borders)
        axis.set_title(data.units[unit], loc="left", fontsize=8)
        axis.set_ylabel("Hz")
    axes[-1].set_xlabel("time (s); dotted: a segment begins")
    axes[0].legend(loc="upper right", fontsize=7, ncols=3)
    return figure


def psths(
    spikes: Mapping[object, Floats],
    rates: Mapping[object, Floats],
    units: Sequence[str],
    width_s: float,
) -> Figure:
    """Draw the mean over trials of each condition: of smoothed spikes, and of estimated rates.

    Parameters
    ----------
    spikes, rates
        Condition to (bins, units) in Hz.
    units
        Names of the units.
    width_s
        Width of a bin.
    """
    conditions = list(rates)[:SHOWN_CONDITIONS]
    chosen = busiest(np.concatenate([spikes[c] for c in conditions]), SHOWN_UNITS)
    time = (np.arange(len(rates[conditions[0]])) + 0.5) * width_s
    figure = Figure(figsize=(10, 1.5 * len(chosen)), layout="constrained")
    axes = figure.subplots(len(chosen), 2, sharex=True, sharey="row", squeeze=False)
    for row, unit in zip(axes, chosen, strict=True):
        for i, condition in enumerate(conditions):
            colour = f"C{i}"
            row[0].plot(time, spikes[condition][:, unit], colour, lw=1, label=_label(condition))
            row[1].plot(time, rates[condition][:, unit], colour, lw=1)
        row[0].set_title(units[unit], loc="left", fontsize=8)
        row[0].set_ylabel("Hz")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=8)
    for axis, what in zip(axes[-1], ("smoothed spikes", "estimated rates"), strict=True):
        axis.set_xlabel(f"time (s), {what}")
    return figure


def _label(condition: object) -> str:
    return f"{condition:.3g}" if isinstance(condition, float) else str(condition)


def decoded_behaviour(data: SpikeData, estimate: Estimate) -> Figure:
    """Draw decoded against recorded behaviour over time, and in the plane if it has two columns."""
    shown, edges, borders = _shown(data)
    time = edges[:-1] + data.width_s / 2
    columns = len(data.columns)
    figure = Figure(figsize=(10, 1.8 * max(columns, 2)), layout="constrained")
    wide = columns == 2
    grid = figure.add_gridspec(columns, 2 if wide else 1, width_ratios=[2, 1] if wide else [1])
    true, decoded = data.behaviour[shown], estimate.behaviour[shown]
    for i, name in enumerate(data.columns):
        axis = figure.add_subplot(grid[i, 0])
        axis.plot(time, true[:, i], "k", lw=1, label="recorded")
        axis.plot(time, decoded[:, i], "C3", lw=1, label="decoded")
        _mark(axis, borders)
        axis.set_ylabel(f"{name} ({data.behaviour_unit})" if data.behaviour_unit else name)
        if i == 0:
            axis.legend(loc="upper right", fontsize=7)
    axis.set_xlabel("time (s); dotted: a segment begins")
    if wide:
        plane = figure.add_subplot(grid[:, 1])
        plane.plot(*true.T, "k", lw=0.8)
        plane.plot(*decoded.T, "C3", lw=0.8)
        plane.set_aspect("equal", "datalim")
        plane.set_xlabel(data.columns[0])
        plane.set_ylabel(data.columns[1])
    return figure


def influence(attention: Floats) -> Floats:
    """Return how much the other units attend to each unit, (units,), itself left out."""
    others = attention * (1 - np.eye(len(attention)))
    return np.asarray(others.sum(axis=0) / max(len(attention) - 1, 1))


def most_influential(attention: Floats, units: Sequence[str], n: int = 10) -> list[str]:
    """Return the names of the units that the others attend to most, the first one most."""
    return [units[i] for i in busiest(influence(attention)[None], n)]


def spatial_attention(attention: Floats, units: Sequence[str]) -> Figure:
    """Draw which unit (row) attends to which (column), and name the most attended to.

    The paper's claim is that a stable subset of neurons drives the others (its figure 4).

    Parameters
    ----------
    attention
        (units, units), rows sum to one.
    units
        Their names.
    """
    weights = influence(attention)
    top = busiest(weights[None], 10)
    figure = Figure(figsize=(10, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.4, 1])
    image = left.imshow(attention, cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=left, label="attention", shrink=0.8)
    left.set_xlabel("unit attended to")
    left.set_ylabel("unit")
    left.set_xticks(top, [units[i] for i in top], rotation=90, fontsize=6)
    right.barh(range(len(top)), weights[top], color="C0")
    right.set_yticks(range(len(top)), [units[i] for i in top], fontsize=8)
    right.invert_yaxis()
    right.set_xlabel("mean attention from other units")
    return figure
