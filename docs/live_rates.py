"""Draws docs/live-rates.png: runs the demo's pipeline live for a few seconds, records it, plots it.

Run from the checkout: python docs/live_rates.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import yaml
from pynwb import NWBHDF5IO, TimeSeries

from stream.commands.demo import PIPELINE
from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan

mpl.use("Agg")
from matplotlib import pyplot as plt

SECONDS = 8.0
SHOWN = (3.0, 7.0)
OUT = Path(__file__).with_name("live-rates.png")


def main() -> None:
    """Run, record, plot."""
    with tempfile.TemporaryDirectory() as folder:
        pipeline = yaml.safe_load(PIPELINE.read_text())
        nodes = pipeline["nodes"]
        del nodes["view"], nodes["score"]
        model = PIPELINE.parent / nodes["rates"]["file"]
        nodes["rates"]["file"] = str(model.resolve())
        recorded = Path(folder) / "live.nwb"
        nodes["saved"] = {
            "use": "record",
            "from": ["neurons", "rates", "neurons.true_rates"],
            "file": str(recorded),
        }
        path = Path(folder) / "picture.yaml"
        path.write_text(yaml.safe_dump(pipeline, sort_keys=False))
        report = run_plan(load_pipeline(path), duration_s=SECONDS)
        assert report.exit == 0, report.message
        with NWBHDF5IO(recorded, "r") as io:
            nwb = io.read()
            series = nwb.processing["ecephys"].data_interfaces
            shown = {name: _window(series[name]) for name in ("true_rates", "rates")}
            spikes = [np.asarray(t) for t in nwb.units["spike_times"]]
    draw(spikes, shown)


def _window(series: TimeSeries) -> tuple[np.ndarray, np.ndarray]:
    values = series.data[:]
    times_s = series.timestamps
    if times_s is None:
        times_s = series.starting_time + np.arange(len(values)) / series.rate
    times_s = np.asarray(times_s)
    inside = (times_s >= SHOWN[0]) & (times_s < SHOWN[1])
    return times_s[inside], values[inside]


def draw(spikes: list[np.ndarray], shown: dict) -> None:
    """Plot spikes, true rates and estimated rates of the same units, sorted by tuning."""
    _, true = shown["true_rates"]
    # Units that fire together stand together: the order of the first principal component.
    scaled = (true - true.mean(0)) / true.std(0)
    order = np.argsort(np.linalg.svd(scaled, full_matrices=False)[2][0])
    figure, axes = plt.subplots(3, 1, figsize=(10, 6.2), sharex=True, constrained_layout=True)
    for row, unit in enumerate(order):
        t = spikes[unit][(spikes[unit] >= SHOWN[0]) & (spikes[unit] < SHOWN[1])]
        axes[0].plot(t, np.full(len(t), row), "|", color="black", markersize=1.6)
    top = float(np.percentile(true, 99))
    for ax, name in zip(axes[1:], ("true_rates", "rates"), strict=True):
        t, values = shown[name]
        image = ax.pcolormesh(t, np.arange(len(order)), values[:, order].T, vmin=0, vmax=top)
    figure.colorbar(image, ax=axes[1:], label="Hz")
    labels = (
        "spikes in",
        "true rates (unknown to the model)",
        "rates out, live, bin by bin",
    )
    for ax, label in zip(axes, labels, strict=True):
        ax.set_title(label, loc="left", fontsize=10)
        ax.set_ylabel("unit")
    axes[-1].set_xlabel("time (s)")
    axes[0].set_xlim(*SHOWN)
    figure.savefig(OUT, dpi=110)


if __name__ == "__main__":
    main()
