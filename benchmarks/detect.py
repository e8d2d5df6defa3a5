"""Spikes found in raw channels: what it costs on one core, and how many of the known ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks._extracellular import RATE_HZ, Raw, Rig, simulate
from benchmarks._one_core import bind_to_one_core
from benchmarks._results import JsonFile, show, write_result
from stream.errors import ConfigError
from stream.node import Context, StreamSpec
from stream.packet import Packet
from stream.spikes.detect import ARTEFACT_UV, DetectSettings, SpikesDetect
from stream.spikes.detector import Detection, Detector
from stream.spikes.importing import import_files
from stream.spikes.mapping import load_mapping
from stream.spikes.noise import LEARN_S

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "spikes" / "hippocampus_linear_track"
MAPPING = ROOT / "configs" / "import" / "hippocampus_linear_track.yaml"
TILE = 32
NEAR = 12
"""Samples (.4 ms) within which an event and a spike are the same."""
VISIBLE = 1.5
"""Depth over noise from which a neighbour's spike explains an event on a channel."""
STRIKE = 300
"""Samples (10 ms) after an artefact begins that count as its own."""
BINS = ((3, 4), (4, 5), (5, 6), (6, 8), (8, 12), (12, 99))
WAYS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "threshold -4": {"threshold": -4.0},
    "threshold -5": {"threshold": -5.0},
    "no look-ahead": {"ahead_s": 0.0},
    "no look-ahead, threshold -4": {"ahead_s": 0.0, "threshold": -4.0},
    "median reference": {"reference": "median"},
    "no reference": {"reference": "none"},
}


def run(
    json_path: JsonFile = None,
    seconds: Annotated[float, typer.Option(help="Of signal for each row of costs.")] = 30.0,
    accuracy_s: Annotated[float, typer.Option(help="Of signal for each seed of accuracy.")] = 60.0,
    seeds: Annotated[int, typer.Option(help="Simulated rigs to score.")] = 3,
    data: Annotated[Path, typer.Option(help="Folder with real spike times.")] = DATA,
) -> dict[str, Any]:
    """Time the node on one core, and score it on simulated channels with real spike times.

    Costs are those of the node's `process`, packets of samples in and packets of spikes out, as
    fast as it goes, bound to one core. Channels are a simulated rig of 32, repeated with shifts.
    The first seconds, in which it learns the noise, are not timed.

    For accuracy, spikes of 31 units at their real times, 20 to 120 uV deep, lie on 32 channels
    with white noise, many small spikes far away, a 1/f field, hum, common noise and artefacts.
    """
    if not data.is_dir():
        raise ConfigError(f"--data: {data} holds no spike times of the hippocampus recording.")
    bind_to_one_core()
    rows = list(_costs(seconds))
    times_s, stretch_s = _times(data)
    rigs = [_rig(times_s, stretch_s, accuracy_s, seed) for seed in range(seeds)]
    for way, changes in WAYS.items():
        rows.extend(_score(way, [_detect(rig, changes) for rig in rigs]))
    conditions = {
        "rate_hz": RATE_HZ, "seconds": seconds, "accuracy_s": accuracy_s, "seeds": seeds,
        "spike_times": data.name, "rig": str(Rig()), "cores": 1,
    }  # fmt: skip
    # Beside a recall, of how many spikes it is would make the table too wide.
    counted = {f"spikes_{name.removeprefix('recall_')}" for row in rows for name in row}
    shown = [{k: v for k, v in row.items() if k not in counted} for row in rows]
    show(shown, Console(width=220), apart="what")
    return write_result("detect", conditions, rows, json_path)


# Costs


def _costs(seconds: float) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(0)
    times = [np.sort(random.uniform(0, 5, 100)) for _ in range(TILE)]
    tile = simulate(times, random.uniform(30, 150, TILE), 5.0, TILE).samples
    for channels in (32, 128, 384):
        shifts = range(0, 997 * channels // TILE, 997)
        samples = np.hstack([np.roll(tile, shift, axis=0) for shift in shifts])
        for reference in ("mean", "median") if channels == 384 else ("mean",):
            for block_ms in (1, 10, 23):
                yield _cost(samples, reference, block_ms, seconds)


def _cost(
    samples: NDArray[np.float32], reference: str, block_ms: int, seconds: float
) -> dict[str, Any]:
    n, channels = samples.shape
    names = tuple(f"ch{i}" for i in range(channels))
    spec = StreamSpec(
        "samples", (None, channels), "float32", names, "uV", 1 / RATE_HZ, {"rate_hz": RATE_HZ}
    )
    node = SpikesDetect(DetectSettings(reference=reference))  # type: ignore[arg-type]
    node.open(Context("spikes", {"raw": spec}, Path()))
    rows = round(block_ms * RATE_HZ / 1000)
    warm = round((LEARN_S + 0.5) * RATE_HZ / rows)
    took = []
    spikes = 0
    for i in range(warm + round(seconds * RATE_HZ / rows)):
        piece = samples[np.arange(i * rows, (i + 1) * rows) % n]
        start_ns, end_ns = (round(k * rows / RATE_HZ * 1e9) for k in (i, i + 1))
        packet = Packet("samples", piece, end_ns, start_ns, end_ns, seq=i)
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        out = list(node.process("raw", packet))
        cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
        if i >= warm:
            took.append((cpu, wall))
            spikes += sum(len(p.data) for p in out)
    cpu_ns, wall_ns = np.array(took, float).T
    span_ns = rows / RATE_HZ * 1e9
    return {
        "what": "cost", "channels": channels, "reference": reference, "block_ms": block_ms,
        "real_time_factor": float(cpu_ns.mean() / span_ns),
        "wall_factor": float(wall_ns.mean() / span_ns),
        "wall_p50_us": float(np.percentile(wall_ns, 50) / 1e3),
        "wall_p99_us": float(np.percentile(wall_ns, 99) / 1e3),
        "spikes_per_s": spikes / (len(took) * span_ns / 1e9),
    }  # fmt: skip


# Accuracy


def _times(folder: Path) -> tuple[list[NDArray[np.float64]], float]:
    recording = import_files(sorted(folder.iterdir()), load_mapping(MAPPING)).recording
    assert recording.spike_times_s is not None
    times = [t - recording.start_s for t in recording.spike_times_s]
    return times, recording.stop_s - recording.start_s


def _rig(times: list[NDArray[np.float64]], stretch_s: float, seconds: float, seed: int) -> Raw:
    """Return one of the busiest stretches of so many seconds, on simulated channels."""
    every = np.concatenate(times)
    starts = np.arange(0, stretch_s - seconds, seconds)
    counts = [np.count_nonzero((every >= a) & (every < a + seconds)) for a in starts]
    start = starts[np.argsort(counts)[-1 - seed]]
    depths = np.random.default_rng(seed).permutation(np.linspace(20, 120, len(times)))
    cut = [t[(t >= start) & (t < start + seconds)] - start for t in times]
    return simulate(cut, list(depths), seconds, TILE, seed=seed)


class Scored:
    """Events of one rig, matched with its spikes."""

    def __init__(self, raw: Raw, found: list[NDArray[np.int64]], noise: NDArray[np.float64]):
        self.begin, self.end = round((LEARN_S + 0.5) * RATE_HZ), len(raw.samples) - NEAR - 90
        found = [events[(events >= self.begin) & (events < self.end)] for events in found]
        self.events = sum(map(len, found))
        self.channels = raw.samples.shape[1]
        self.late: list[int] = []
        # Of each unit: depth over noise, spikes, and how many were found on its channel.
        self.units: list[tuple[float, int, int]] = []
        for unit, troughs in enumerate(raw.troughs):
            home = raw.home[unit]
            spikes = troughs[(troughs >= self.begin + NEAR) & (troughs < self.end - NEAR)]
            late = match(spikes, found[home])
            self.late.extend(late)
            depth = float(raw.amplitudes[unit, home] / noise[home])
            self.units.append((depth, len(spikes), len(late)))
        self.explained = self.struck = 0
        for channel, events in enumerate(found):
            seen = np.flatnonzero(raw.amplitudes[:, channel] >= VISIBLE * noise[channel])
            spikes = np.sort(np.concatenate([np.empty(0, int), *(raw.troughs[u] for u in seen)]))
            self.explained += len(match(spikes, events))
            for at in raw.artefacts:
                self.struck += np.count_nonzero((events >= at) & (events < at + STRIKE))
        self.artefacts = len(raw.artefacts)


def match(spikes: NDArray[np.int64], events: NDArray[np.int64]) -> list[int]:
    """Pair spikes with events that are near, each once, both sorted; return how late events are."""
    late = []
    j = 0
    for spike in spikes:
        while j < len(events) and events[j] < spike - NEAR:
            j += 1
        if j < len(events) and events[j] <= spike + NEAR:
            late.append(int(events[j] - spike))
            j += 1
    return late


def _detect(raw: Raw, changes: dict[str, Any]) -> Scored:
    detector = Detector(RATE_HZ, TILE, Detection(limit=ARTEFACT_UV, **changes))
    pieces = [detector.feed(piece) for piece in np.array_split(raw.samples, 100)]
    samples, channels = (np.concatenate(part) for part in zip(*pieces, strict=True))
    found = [np.sort(samples[channels == c]) for c in range(TILE)]
    return Scored(raw, found, detector.noise.sigma)


def _score(way: str, scored: list[Scored]) -> Iterator[dict[str, Any]]:
    span = sum((s.end - s.begin) / RATE_HZ * s.channels for s in scored)
    events, explained = (sum(getattr(s, what) for s in scored) for what in ("events", "explained"))
    late_ms = np.array([x for s in scored for x in s.late]) / RATE_HZ * 1e3
    units = [u for s in scored for u in s.units]
    row: dict[str, Any] = {"what": "accuracy", "way": way}
    for low, high in BINS:
        inside = [u for u in units if low <= u[0] < high]
        spikes = sum(u[1] for u in inside)
        name = f"recall_{low}_{high}" if high < 99 else f"recall_{low}_up"
        row[name] = sum(u[2] for u in inside) / spikes if spikes else None
        row[name.replace("recall", "spikes")] = spikes
    yield row | {
        "precision": explained / max(events, 1),
        "unexplained_per_channel_s": (events - explained) / span,
        "artefacts": sum(s.artefacts for s in scored),
        "events_in_artefacts": int(sum(s.struck for s in scored)),
        "late_p50_ms": float(np.median(late_ms)),
        "late_spread_ms": float(np.std(late_ms)),
    }
