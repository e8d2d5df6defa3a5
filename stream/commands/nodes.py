"""`innervate nodes`: what nodes there are and how they are set."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stream.node import Node, Source
from stream.registry import installed_nodes, node_class
from stream.schema import settings_schema


def nodes(
    name: Annotated[str | None, typer.Argument(help="Show this node only.")] = None,
) -> None:
    """List the nodes there are, with their settings."""
    console = Console()
    there, broken = ({name: node_class(name)}, []) if name else installed_nodes()
    for use, cls in there.items():
        console.print(f"[bold]{use}[/]  {_takes(cls)}  {escape(cls.summary)}")
        table = Table(box=None, padding=(0, 2), show_header=False)
        table.add_column()
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        table.add_column(overflow="fold")
        schema = settings_schema(cls)
        for key, setting in schema.get("properties", {}).items():
            what = "required" if key in schema.get("required", ()) else _default(setting)
            table.add_row("", f"[cyan]{key}[/]", what, escape(setting.get("description", "")))
        console.print(table)
    for error in broken:
        console.print(f"[yellow]note:[/] {escape(str(error))}", soft_wrap=True)


def _takes(cls: type[Node[Any]]) -> str:
    if issubclass(cls, Source):
        return "[dim](source)[/]"
    kinds = "anything" if "*" in cls.accepts else ", ".join(sorted(cls.accepts))
    return f"[dim](takes {kinds})[/]"


def _default(setting: dict[str, Any]) -> str:
    """Write a default as it would stand in a pipeline file; none is told in the description."""
    value = setting.get("default")
    if value in (None, ""):
        return "optional"
    return f"default {str(value).lower() if isinstance(value, bool) else value}"
