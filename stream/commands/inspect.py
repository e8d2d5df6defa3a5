"""`innervate inspect`: print what a model file says of itself."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream.commands.output import write_json
from stream.model_file import Contract, Port, read_model
from stream.stability.card import stability_lines
from stream.units import format_seconds

_NAMES_SHOWN = 6


def inspect(
    model: Annotated[Path, typer.Argument(help="Model file (.onnx).")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the card to this file.")
    ] = None,
) -> None:
    """Print what a model file takes and gives, what it was trained on, and what it is worth."""
    content, contract = read_model(model)
    sha256 = hashlib.sha256(content).hexdigest()
    show(contract, model, len(content), sha256, Console())
    if json_file is not None:
        card = {
            "file": str(model),
            "bytes": len(content),
            "sha256": sha256,
            "contract": msgspec.to_builtins(contract),
        }
        write_json("--json", json_file, card)


def show(contract: Contract, path: Path, size: int, sha256: str, console: Console) -> None:
    """Print the card of a model file."""
    console.print(f"[bold]{escape(contract.name)}[/] {escape(contract.version)}, {contract.task}")
    console.print(f"{escape(str(path))}, {size / 2**20:.2f} MiB, sha256 {sha256}\n", soft_wrap=True)
    console.print(_ports(contract))
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column()
    for title, value in _facts(contract).items():
        facts.add_row(title, escape(value))
    console.print()
    console.print(facts)
    if contract.scores:
        console.print()
        console.print(_scores(contract))


def _ports(contract: Contract) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("", "name", "kind", "shape", "unit", "every"):
        table.add_column(column, no_wrap=True)
    table.add_column("channels")
    for side, ports in (("in", contract.inputs), ("out", contract.outputs)):
        for port in ports:
            table.add_row(
                side, escape(port.name), port.kind, _shape(port), escape(port.unit),
                "any" if port.period_s is None else format_seconds(port.period_s),
                escape(_some(port.channels, 3)),
            )  # fmt: skip
    return table


def _facts(contract: Contract) -> dict[str, str]:
    """Return the lines of the card below its inputs and outputs."""
    facts = {"state": _state(contract)}
    if contract.delay_steps:
        facts["look-ahead"] = f"outputs come {contract.delay_steps} steps after their input"
    if contract.threshold is not None:
        facts["threshold"] = f"a class is believed from a probability of {contract.threshold:g} on"
    parity = dict(contract.parity)
    quantised = parity.pop("quantised", {})
    sections = {
        "preprocessing": contract.preprocessing,
        "trained on": contract.trained_on,
        "training": contract.training,
        "export errors": parity,
        "integer weights": quantised,
    }
    facts |= {title: _lines(values) for title, values in sections.items() if values}
    if contract.stability is not None:
        facts |= stability_lines(contract.stability)
    elif contract.states:
        facts["stability"] = "not measured; `innervate stability` does it"
    if contract.notes:
        facts["notes"] = contract.notes
    return facts


def _state(contract: Contract) -> str:
    if not contract.states:
        return "none"
    size = sum(math.prod(s.shape) * np.dtype(s.dtype).itemsize for s in contract.states)
    in_place = sum(s.in_place for s in contract.states)
    return f"{len(contract.states)} tensors, {size / 1024:.1f} KiB, {in_place} updated in place"


def _shape(port: Port) -> str:
    return " x ".join(f"{size} {axis}" for size, axis in zip(port.shape, port.axes, strict=True))


def _scores(contract: Contract) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("score")
    table.add_column("value", justify="right")
    table.add_column("measured on")
    for score in contract.scores:
        where = f"{score.data}, {score.split} part" if score.split else score.data
        table.add_row(escape(score.metric), f"{score.value:.4f}", escape(where))
    return table


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(
        f"{key.replace('_', ' ')}: {_value(value)}"
        for key, value in values.items()
        if value not in (None, "")
    )


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return _some([_value(inner) for inner in value])
    return str(value)


def _some(names: list[str] | tuple[str, ...], shown: int = _NAMES_SHOWN) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
