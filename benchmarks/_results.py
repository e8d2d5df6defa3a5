"""What a benchmark found: rows and conditions as JSON, rows as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from stream.commands.output import write_json
from stream.runtime.report import machine

Row = dict[str, Any]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the rows here.")]


def write_result(
    name: str, conditions: dict[str, Any], rows: list[Row], json_path: Path | None
) -> dict[str, Any]:
    """Return what a benchmark gives, and write it where `--json` says.

    Raises
    ------
    ConfigError
        It cannot be written there.
    """
    found = {"name": name, "conditions": {**conditions, **machine()}, "rows": rows}
    if json_path is not None:
        write_json("--json", json_path, found)
    return found


def show(
    rows: Sequence[Row],
    console: Console,
    title: str | None = None,
    *,
    columns: Iterable[str] = (),
    apart: str = "",
) -> None:
    """Print rows as a table: these columns, or all; one table for each value of the key `apart`."""
    if apart:
        for value in dict.fromkeys(row[apart] for row in rows):
            some = [row for row in rows if row[apart] == value]
            others = dict.fromkeys(key for row in some for key in row if key != apart)
            show(some, console, str(value), columns=others)
        return
    table = Table(title=title, box=None)
    keys = list(columns) or list(dict.fromkeys(key for row in rows for key in row))
    for key in keys:
        is_text = any(isinstance(row.get(key), str) for row in rows)
        words = key.replace("_", " ")
        table.add_column(
            words, justify="left" if is_text else "right", overflow="fold",
            min_width=max(map(len, words.split())),
        )  # fmt: skip
    for row in rows:
        table.add_row(*(_text(row.get(key)) for key in keys))
    console.print(table)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "NO"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)
