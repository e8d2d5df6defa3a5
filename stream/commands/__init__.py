"""The command line: `main` gathers the commands that packages declare, one file a command."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
import typer
from rich.console import Console

from stream.errors import InnervateError, MissingExtraError

_EXTRA_OF_MODULE = {
    "torch": "train", "onnx": "train", "onnxscript": "train", "sklearn": "train",
    "matplotlib": "train", "scipy": "nwb", "pynwb": "nwb", "h5py": "nwb", "hdmf": "nwb",
}  # fmt: skip


class _Commands(click.Group):
    """Finds commands among entry points and imports one only when it is asked for."""

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group="innervate.commands")}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries())
