"""`innervate nodes`: what nodes there are and how they are set."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from stream.node import Node, Source
from stream.registry import node_class, node_names


def nodes(
    name: Annotated[str | None, typer.Argument(help="Show this node only.")] = None,
) -> None:
    """List the nodes there are, with their settings."""
    console = Console()
    for use in [name] if name else node_names():
        cls = node_class(use)
        console.print(f"[bold]{use}[/]  {_takes(cls)}  {cls.summary}")
        table = Table(box=None, padding=(0, 2), show_header=False)
        for key, schema in (
            cls.Settings.model_json_schema()["properties"].items()
            if (cls.Settings.model_fields)
            else ()
        ):
            field = cls.Settings.model_fields[key]
            default = "required" if field.is_required() else f"default {field.default!r}"
            table.add_row("", f"[cyan]{key}[/]", default, schema.get("description", ""))
        console.print(table)


def _takes(cls: type[Node[Any]]) -> str:
    if issubclass(cls, Source):
        return "[dim](source)[/]"
    kinds = "anything" if "*" in cls.accepts else ", ".join(sorted(cls.accepts))
    return f"[dim](takes {kinds})[/]"
