"""One command for several systems, each with options of its own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import typer
from rich.console import Console

from stream.errors import ConfigError

CONTEXT_SETTINGS = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}
"""For commands that leave their options to `run_for_system`."""


def run_for_system(context: typer.Context, command: str, systems: Mapping[str, str]) -> None:
    """Run what `command` means for the system that its first argument names.

    `systems` maps names to functions with typer's annotations, written `module:function`; each
    takes the system's name as its first argument.

    Raises
    ------
    ConfigError
        There is no such system.
    """
    if not context.args or context.args[0] == "--help":
        Console().print(
            f"Usage: innervate {command} SYSTEM \\[OPTIONS]\n\nSYSTEM is one of"
            f" {', '.join(systems)}; `innervate {command} SYSTEM --help` lists its options."
        )
        return
    name = context.args[0]
    if name not in systems:
        raise ConfigError(
            f"there is no system '{name}' to {command}; the first word after '{command}' is one of"
            f" {', '.join(systems)}."
        )
    module, _, function = systems[name].partition(":")
    app = typer.Typer(add_completion=False)
    app.command(name)(getattr(importlib.import_module(module), function))
    # Not standalone, it returns the exit code of Ctrl-C and of `--help`.
    code = app(context.args, prog_name=f"innervate {command}", standalone_mode=False)
    if code:
        raise typer.Exit(code)
