"""Draws docs/connectome.png: spikes of a network that changes, its graph before and after, live.

Run from the checkout: python docs/connectome_picture.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import yaml
from pynwb import NWBHDF5IO

from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan

mpl.use("Agg")
from matplotlib import pyplot as plt

CONFIG = Path(__file__).parents[1] / "configs" / "spikes-to-connectome.yaml"
SECONDS = 120
OUT = Path(__file__).with_name("connectome.png")


def main() -> None:
    """Simulate, run, record, plot."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "configs").mkdir()
        simulate = [sys.executable, "-m", "models.connectome.switching"]
        spikes = folder / "switching.npz"
        subprocess.run([*simulate, "--out", str(spikes), "--seconds", str(SECONDS)], check=True)
        pipeline = yaml.safe_load(CONFIG.read_text())
        nodes = pipeline["nodes"]
        del nodes["view"]
        nodes["probe"]["speed"] = "max"
        nodes["saved"]["from"] = ["graphs", "graphs.change"]
        path = folder / "configs" / CONFIG.name
        path.write_text(yaml.safe_dump(pipeline))
        report = run_plan(load_pipeline(path), run_dir=folder / "run")
        if report.exit:
            raise SystemExit(report.message)
        with NWBHDF5IO(str(folder / "connectome.nwb"), "r") as io:
            file = io.read()
            graphs = _series(file.processing["connectivity"]["graphs"])
            change = _series(file.processing["behavior"]["change"])
        truth = np.load(spikes)
        _plot(graphs, change, [truth["before"], truth["after"]])


def _series(series: Any) -> tuple[Any, Any]:
    data = np.array(series.data)
    if series.timestamps is not None:
        return np.array(series.timestamps), data
    return series.starting_time + np.arange(len(data)) / series.rate, data


def _plot(graphs: tuple[Any, Any], change: tuple[Any, Any], truth: list[Any]) -> None:
    half = SECONDS / 2
    figure = plt.figure(figsize=(10, 6.4), dpi=110, layout="constrained")
    grid = figure.add_gridspec(2, 4, height_ratios=[1.15, 1])
    at = [np.searchsorted(graphs[0], t) - 1 for t in (half, SECONDS)]
    titles = ("true, first minute", "found at 60 s", "true, second minute", "found at 120 s")
    matrices = [truth[0], graphs[1][at[0]], truth[1], graphs[1][at[1]]]
    for column, (title, matrix) in enumerate(zip(titles, matrices, strict=True)):
        axes = figure.add_subplot(grid[0, column])
        sign = np.sign(matrix if matrix.ndim == 2 else matrix[..., 0] * matrix[..., 1])
        axes.imshow(sign, cmap="RdBu_r", vmin=-1.4, vmax=1.4)
        axes.set(title=title, xlabel="to unit", ylabel="from unit" if column == 0 else "")
        axes.set_xticks([0, 10, 19])
        axes.set_yticks([0, 10, 19] if column == 0 else [])
    axes = figure.add_subplot(grid[1, :])
    edges = graphs[1][..., 0] > 0
    for number, (label, colour) in enumerate((("first", "#2b6ca3"), ("second", "#c0504d"))):
        true = truth[number] != 0
        youden = edges[:, true].mean(axis=1) - edges[:, ~true].mean(axis=1)
        axes.plot(graphs[0], youden, color=colour, label=f"agreement with the {label} graph (J)")
    axes.axvline(half, color="0.5", lw=1)
    axes.set(xlabel="time, s", ylabel="J", ylim=(-0.1, 1.05), xlim=(0, SECONDS))
    beside = axes.twinx()
    beside.plot(change[0], change[1][:, 0], color="0.35", lw=1, label="change")
    beside.axhline(10, color="0.35", lw=0.8, ls=":")
    beside.set_ylabel("change (dotted: threshold)")
    lines = [*axes.get_lines()[:2], beside.get_lines()[0]]
    axes.legend(lines, [line.get_label() for line in lines], loc="center right", frameon=False)
    figure.savefig(OUT)


if __name__ == "__main__":
    main()
