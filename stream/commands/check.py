"""`innervate check`: validate a pipeline and show what it would start."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream.node import StreamSpec
from stream.pipeline import load_pipeline
from stream.units import format_seconds


def check(pipeline: Annotated[Path, typer.Argument(help="Pipeline file (YAML).")]) -> None:
    """Validate a pipeline file without starting anything."""
    plan = load_pipeline(pipeline)
    table = Table(title=f"{escape(plan.name)}: {len(plan.groups)} processes", title_justify="left")
    for column in ("node", "use", "group", "from", "gives"):
        table.add_column(column)
    for node in plan.nodes.values():
        links = [
            link.stream + ("" if link.delivery.policy == "lossless" else f" ({_policy(link)})")
            for link in node.inputs
        ]
        gives = [
            f"{node.name}{'.' + output if output else ''}: {describe(spec)}"
            for output, spec in node.outputs.items()
        ]
        table.add_row(node.name, node.use, node.group, "\n".join(links), "\n".join(gives))
    console = Console()
    console.print(table)
    console.print(f"[green]{escape(str(pipeline))} is fine.[/]")


def _policy(link: object) -> str:
    delivery = link.delivery  # type: ignore[attr-defined]
    return f"queue {delivery.depth}" if delivery.policy == "queue" else str(delivery.policy)


def describe(spec: StreamSpec) -> str:
    """Say in a few words what a stream carries, such as `rates [182] Hz every 5 ms`."""
    shape = "x".join("*" if size is None else str(size) for size in spec.shape)
    words = [spec.kind, f"\\[{shape}]", spec.unit]
    if spec.period_s is not None:
        words.append(f"every {format_seconds(spec.period_s)}")
    return " ".join(word for word in words if word)
