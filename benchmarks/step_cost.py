"""What a new bin costs: one streaming step against running the window again, on one CPU thread."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks._results import JsonFile, Row, write_result
from exporters.gru import gru_step
from exporters.onnx_graph import StepGraph
from exporters.published import published_window
from exporters.stndt import streaming_step
from exporters.stndt_window import causal_window
from models.spikes.gru import GRU, GRUConfig
from models.stndt.published import PublishedConfig, PublishedSTNDT
from models.stndt.streaming import StreamingConfig, StreamingSTNDT

WIDTH_S = 0.005
BITS = {"float32": None, "int8": 8, "int4": 4}
Key = tuple[str, str, str]
Times = NDArray[np.float64]
STEPS_PER_TURN, WINDOWS_PER_TURN = 40, 3


def run(
    json_path: JsonFile = None,
    units: Annotated[int, typer.Option(help="Units, all of them fed in and predicted.")] = 182,
    window: Annotated[int, typer.Option(help="Bins that attention sees.")] = 200,
    layers: Annotated[int, typer.Option(help="Layers.")] = 4,
    rounds: Annotated[int, typer.Option(help="Rounds; in each, every graph has its turn.")] = 60,
) -> dict[str, Any]:
    """Time graphs of one network in turns, within one process and on one thread each.

    Weights are random: they do not change what a graph costs. Buffers are bound once and states
    are updated in place, as in a live run. A turn begins with two runs that are not counted. With
    exact mixing each bin of a window has a matrix of its own, so no window is built for it; its
    step is compared with the window without mixing, which does less, and with STNDT as published,
    which has one matrix for the whole window.
    """
    torch.manual_seed(0)
    shapes = {f"2 x {units // 2}": (2, units // 2), "4 x 16": (4, 16)}
    graphs: dict[Key, Callable[[], None]] = {}
    for shape, (heads, head_width) in shapes.items():
        for spatial in ("none", "frozen", "exact"):
            config = StreamingConfig(
                n_in=units, n_out=units, window=window, layers=layers, heads=heads,
                head_width=head_width, hidden=128, spatial=spatial,
            )  # fmt: skip
            network = StreamingSTNDT(config).eval()
            mixing = "" if spatial == "none" else f", {spatial} mixing"
            name = f"streaming STNDT, heads {shape}{mixing}"
            if spatial != "exact":
                for what, last_only in (("window", False), ("newest row", True)):
                    model = causal_window(network, WIDTH_S, last_only=last_only)
                    graphs[name, what, "float32"] = bind(model)
            for weights, bits in BITS.items():
                graphs[name, "step", weights] = bind_step(streaming_step(network, WIDTH_S, bits))
    published = PublishedSTNDT(
        PublishedConfig(units=units, bins=window, inputs=tuple(range(units)), layers=layers)
    )
    graphs["STNDT, published", "window", "float32"] = bind(published_window(published, WIDTH_S))
    for hidden in (128, 184):
        gru = GRU(GRUConfig(n_in=units, n_out=units, hidden=hidden))
        for weights, bits in BITS.items():
            name = f"GRU {hidden}"
            graphs[name, "step", weights] = bind_step(gru_step(gru, WIDTH_S, bits))

    times = _take_turns(graphs, rounds)
    rows = [_row(key, times) for key in times]
    conditions = {
        "units": units, "window_bins": window, "layers": layers, "hidden": 128, "threads": 1,
        "rounds": rounds, "order": "interleaved", "onnxruntime": ort.__version__,
    }  # fmt: skip
    _show(conditions, rows)
    return write_result("step-cost", conditions, rows, json_path)


def open_session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def bind(model: onnx.ModelProto) -> Callable[[], None]:
    return bind_step(StepGraph(model, ()))


def bind_step(step: StepGraph) -> Callable[[], None]:
    """Return a function that runs the graph once, with states in place."""
    session = open_session(step.model)
    binding = session.io_binding()
    random = np.random.default_rng(0)
    carried = {s.input: s for s in step.states}
    for tensor in session.get_inputs():
        state = carried.get(tensor.name)
        if state is None:
            start = random.poisson(0.3, tensor.shape).astype(np.float32)
        else:
            start = np.full(state.shape, state.start, state.dtype)
        value = ort.OrtValue.ortvalue_from_numpy(start)
        binding.bind_ortvalue_input(tensor.name, value)
        if state is not None:
            binding.bind_ortvalue_output(state.output, value)
    for name in {t.name for t in session.get_outputs()} - {s.output for s in step.states}:
        binding.bind_output(name, "cpu")
    # Without run options: giving them to this call costs 25 us (ONNX Runtime 1.31).
    return lambda: session.run_with_iobinding(binding)


def _take_turns(graphs: dict[Key, Callable[[], None]], rounds: int) -> dict[Key, Times]:
    """Return CPU time of the thread and wall time of every run, (runs, 2) in us."""
    times: dict[Key, list[tuple[int, int]]] = {key: [] for key in graphs}
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        for key, once in graphs.items():
            once()
            once()
            for _ in range(STEPS_PER_TURN if key[1] == "step" else WINDOWS_PER_TURN):
                wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
                once()
                cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
                times[key].append((cpu, wall))
    gc.enable()
    return {key: np.array(values) / 1e3 for key, values in times.items()}


def _row(key: Key, times: dict[Key, Times]) -> dict[str, Any]:
    """Return one row; ratios are of median CPU time, which neighbours on the machine disturb less.

    A window takes milliseconds and is interrupted where a step is not: ratios of wall time on a
    busy machine would flatter the step.
    """
    name, graph, weights = key
    cpu, wall = times[key].T
    row: dict[str, Any] = {"network": name, "graph": graph, "weights": weights, "runs": len(cpu)}
    for q, label in ((10, "p10"), (50, "p50"), (99, "p99")):
        row[f"cpu_{label}_us"] = float(np.percentile(cpu, q))
    for q, label in ((50, "p50"), (99, "p99"), (99.9, "p999")):
        row[f"wall_{label}_us"] = float(np.percentile(wall, q))
    windowed = name.removesuffix(", exact mixing")
    rivals = {
        "window": (windowed, "window", "float32"),
        "newest_row": (windowed, "newest row", "float32"),
        "published": ("STNDT, published", "window", "float32"),
    }
    for label, rival in rivals.items():
        known = graph == "step" and rival in times
        ratio = np.median(times[rival][:, 0]) / np.median(cpu) if known else np.nan
        row[f"cheaper_than_{label}"] = float(ratio) if known else None
    return row


def _show(c: dict[str, Any], rows: list[Row]) -> None:
    table = Table(
        title=f"One new bin: {c['units']} units, window {c['window_bins']}, {c['layers']} layers,"
        " one thread",
        caption="times in us; ratios of median CPU time",
        box=None,
    )
    for column in ("network", "graph", "weights"):
        table.add_column(column, no_wrap=True)
    for column in ("cpu p50", "wall p50", "wall p99", "/ window", "/ newest", "/ published"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        ratios = (row[f"cheaper_than_{what}"] for what in ("window", "newest_row", "published"))
        table.add_row(
            row["network"], row["graph"], row["weights"], f"{row['cpu_p50_us']:.1f}",
            f"{row['wall_p50_us']:.1f}", f"{row['wall_p99_us']:.1f}",
            *("" if ratio is None else f"{ratio:.1f}x" for ratio in ratios),
        )  # fmt: skip
    Console(width=150).print(table)
