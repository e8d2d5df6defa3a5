"""Lyapunov exponents against known answers, their cost, and what early spectra predict."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime as ort
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.func import vmap

from benchmarks._early_quality import prediction, sweep
from benchmarks._results import JsonFile, Row, write_result
from exporters.gru import gru_step
from exporters.onnx_graph import StepGraph
from exporters.recurrent import lstm_step
from models.lyapunov.spectrum import lyapunov_spectrum
from models.lyapunov.steps import RecurrentStep, gru_baseline_step
from models.lyapunov.systems import (
    HENON,
    LORENZ,
    LORENZ_STEP,
    chaotic_lstm,
    exponent_of_h_alone,
    henon,
    linear,
    lorenz,
    random_network,
)
from models.spikes.gru import GRU, GRUConfig
from stream.errors import ConfigError
from stream.model_file import Contract, Port, read_contract
from stream.stability.card import stability_lines
from stream.stability.differences import model_spectrum
from stream.stability.parts import ModelStep, find_parts
from stream.stability.spectrum import Spectrum

ZOO = Path(__file__).parents[1] / "models" / "zoo"
DOUBLE = torch.float64
PARTS = ("answers", "cost", "prediction", "sweep", "gate")


def run(
    spectra: Annotated[
        Path | None,
        typer.Option(
            help="Spectra (.npz: le_e4, val_loss, lr, drop) of networks, for early prediction."
        ),
    ] = None,
    only: Annotated[str | None, typer.Option(help=f"One part: {', '.join(PARTS)}.")] = None,
    short: Annotated[bool, typer.Option("--short", help="A tenth of the work.")] = False,
    json_path: JsonFile = None,
) -> dict[str, Any]:
    """Measure exponents of known systems, of exported steps, and what they say of quality.

    Everything is drawn by fixed seeds and runs in one thread.
    """
    if only is not None and only not in PARTS:
        raise ConfigError(f"--only: there is no part '{only}'; there are {', '.join(PARTS)}.")
    torch.set_num_threads(1)
    console = Console(highlight=False, width=150)
    parts = {
        "answers": lambda: _answers(short),
        "cost": lambda: _cost(short),
        "prediction": lambda: prediction(spectra, short),
        "sweep": lambda: sweep(short),
        "gate": _gate,
    }
    rows: list[Row] = []
    for name in PARTS if only is None else (only,):
        with console.status(name):
            rows += [{"part": name, **row} for row in parts[name]()]
    _show(rows, console)
    conditions = {
        "threads": 1, "short": short, "torch": str(torch.__version__),
        "onnxruntime": ort.__version__, "spectra": spectra.name if spectra else None,
    }  # fmt: skip
    return write_result("lyapunov", conditions, rows, json_path)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def _answer(what: str, found: Any, expected: Any, goal: float, **more: Any) -> Row:
    found, expected = np.atleast_1d(found), np.atleast_1d(expected)
    error = float(np.abs(found - expected).max())
    return {
        "what": what, "found": [round(float(v), 4) for v in found],
        "expected": [round(float(v), 4) for v in expected], "error": error, "goal": goal,
        "met": error <= goal, **more,
    }  # fmt: skip


def _answers(short: bool) -> Iterator[Row]:
    nothing = torch.zeros(1, 400, 0, dtype=DOUBLE)
    values = torch.tensor([1.2, -0.9, 0.7, 0.5, -0.3, 0.1], dtype=DOUBLE)
    basis = _normal(6, 6)
    matrix = basis @ torch.diag(values) @ torch.linalg.inv(basis)
    found = lyapunov_spectrum(linear(matrix), _normal(6), nothing, warm_up=200)
    yield _answer("linear map, 6", found.mean, values.abs().log(), 1e-3)
    rotation = torch.linalg.qr(_normal(32, 32))[0]
    found = lyapunov_spectrum(linear(rotation), _normal(32), nothing, warm_up=200)
    yield _answer("orthogonal map, 32", np.abs(found.mean).max(), 0.0, 1e-3)
    starts = 0.03 * _normal(500 if short else 5000, 2)
    found = lyapunov_spectrum(henon, starts, _nothing(starts, 600), warm_up=100)
    yield _answer("Henon", found.mean, HENON, 1e-3, sequences=len(starts))
    starts = 8 * _normal(800 if short else 8000, 3) + torch.tensor([0.0, 0.0, 25.0])
    settled = vmap(lambda state: lorenz(state, state))
    for _ in range(1000):
        starts = settled(starts)
    # Much of what one stretch grows by depends on where it begins and ends, so it has to be long.
    found = lyapunov_spectrum(
        lorenz, starts, _nothing(starts, 5600), warm_up=600, every=20, period_s=LORENZ_STEP
    )
    errors = found.spread / LORENZ_STEP / len(starts) ** 0.5
    yield _answer(
        "Lorenz, a unit of time", found.per_second, LORENZ, 1e-3,
        standard_error=float(errors.max()), sequences=len(starts),
    )  # fmt: skip
    torch.manual_seed(0)
    step = RecurrentStep(nn.GRU(3, 24).double())
    yield _volume(step, _normal(1, 300, 3))
    for gain in (0.8, 2.5):
        found = lyapunov_spectrum(random_network(128, gain, 0), _normal(128), nothing, k=1)
        right = (found.largest > 0) == (gain > 1)
        yield {"what": f"random tanh network, gain {gain}", "found": [round(found.largest, 4)],
               "expected": ["above 0" if gain > 1 else "below 0"], "met": right}  # fmt: skip
    yield _without_cell()
    yield from _exported()


def _nothing(starts: Tensor, steps: int) -> Tensor:
    return torch.zeros(len(starts), steps, 0, dtype=DOUBLE)


def _volume(step: RecurrentStep, inputs: Tensor) -> Row:
    state, total = torch.zeros(step.size, dtype=DOUBLE), 0.0
    found = lyapunov_spectrum(step, state, inputs, warm_up=100)
    with torch.no_grad():
        for t, x in enumerate(inputs[0]):
            if t >= 100:
                total += float(torch.linalg.slogdet(torch.func.jacfwd(step)(state, x))[1])
            state = step(state, x)
    volume = total / (len(inputs[0]) - 100)
    return _answer("GRU 24: sum against log |det J|", found.mean.sum(), volume, 1e-3)


def _without_cell() -> Row:
    step, inputs = chaotic_lstm(), _normal(4, 1100, 4, seed=1)
    whole = lyapunov_spectrum(step, torch.zeros(64, dtype=DOUBLE), inputs, k=1)
    alone = exponent_of_h_alone(step, inputs[0])
    return {
        "what": "LSTM 32: h and c, against h alone",
        "found": [round(whole.largest, 4), round(alone, 4)],
        "expected": ["above 0", "below 0"], "met": whole.largest > 0 > alone,
        "spread": float(whole.spread[0]),
    }  # fmt: skip


def _contract(step: StepGraph, fed: str, made: str, n: int, m: int) -> Contract:
    return Contract(
        name=made, version="1", task=made, states=step.states,
        inputs=(Port(name=fed, kind="counts", shape=(n,), axes=("u",), unit="", channels=()),),
        outputs=(Port(name=made, kind="rates", shape=(m,), axes=("u",), unit="", channels=()),),
    )  # fmt: skip


def _exported() -> Iterator[Row]:
    """Hold differences of exported steps, in float32, against derivatives in float64."""
    torch.manual_seed(0)
    network = GRU(GRUConfig(n_in=20, n_out=20, hidden=128)).eval()
    counts = np.random.default_rng(0).poisson(0.5, (3, 600, 20)).astype(np.float32)
    exact = lyapunov_spectrum(
        gru_baseline_step(network.double()), torch.zeros(128, dtype=DOUBLE),
        torch.from_numpy(counts).double(), k=8,
    )  # fmt: skip
    step = gru_step(network.float(), 0.02)
    yield _differenced("GRU 128", step, _contract(step, "counts", "rates", 20, 20), counts, exact)
    layer = nn.LSTM(20, 64)
    inputs = _normal(3, 600, 20).float()
    exact = lyapunov_spectrum(
        RecurrentStep(layer.double()), torch.zeros(128, dtype=DOUBLE), inputs.double(), k=8
    )
    step = lstm_step(layer.float())
    contract = _contract(step, "x", "y", 20, 64)
    yield _differenced("LSTM 64", step, contract, inputs.numpy(), exact)


def _differenced(
    what: str, step: StepGraph, contract: Contract, inputs: NDArray[np.float32], exact: Spectrum
) -> Row:
    model = ModelStep(step.model.SerializeToString(), contract)
    parts = find_parts(model, inputs[0, :40], inputs[1, :40])
    found = model_spectrum(model, inputs, parts, k=8, warm_up=100)
    return _answer(f"{what}: ONNX against PyTorch, top 4", found.mean[:4], exact.mean[:4], 1e-2)


def _cost(short: bool) -> Iterator[Row]:
    steps = 12 if short else 40
    torch.manual_seed(0)
    for kind, layer in (("LSTM", nn.LSTM), ("GRU", nn.GRU)):
        for hidden in (64, 128, 256, 512):
            for k in (16, 64, None):
                for dtype in (torch.float32, DOUBLE):
                    step = RecurrentStep(layer(32, hidden).to(dtype))
                    if k is None and step.size > 256:
                        continue
                    inputs = torch.randn(1, steps, 32, dtype=dtype)
                    start = torch.zeros(step.size, dtype=dtype)
                    lyapunov_spectrum(step, start, inputs[:, :3], k=k, warm_up=1)
                    began = time.thread_time()
                    lyapunov_spectrum(step, start, inputs, k=k, warm_up=1)
                    took_ms = (time.thread_time() - began) / steps * 1e3
                    row: Row = {"what": f"{kind} {hidden}, {'top ' + str(k) if k else 'all'}",
                                "dtype": str(dtype).removeprefix("torch."),
                                "ms_a_step": took_ms}  # fmt: skip
                    if (kind, hidden, k) == ("LSTM", 256, 64):
                        row |= {"goal": 8.0, "met": took_ms < 8}
                    yield row


def _gate() -> Iterator[Row]:
    """Read what the cards of the shipped models say; `innervate stability` measured it."""
    for path in sorted(ZOO.glob("*.onnx")):
        found = read_contract(path).stability
        if found is None:
            yield {"what": path.stem, "met": False, "memory": "not measured"}
            continue
        yield {
            "what": path.stem, "met": found.stable, "largest_exponent": found.largest_exponent,
            "spread": found.spread, "memory": stability_lines(found)["memory"],
        }  # fmt: skip


def _show(rows: list[Row], console: Console) -> None:
    for part in PARTS:
        chosen = [row for row in rows if row["part"] == part]
        if not chosen:
            continue
        keys = list(dict.fromkeys(key for row in chosen for key in row if key != "part"))
        table = Table(title=part, box=None, title_justify="left")
        for key in keys:
            side: Any = "left" if key in ("what", "memory") else "right"
            table.add_column(key.replace("_", " "), justify=side, no_wrap=key == "what")
        for row in chosen:
            table.add_row(*(_text(row.get(key)) for key in keys))
        console.print(table)
        console.print()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_text(v) for v in (value if len(value) <= 4 else value[:4]))
    return str(value)
