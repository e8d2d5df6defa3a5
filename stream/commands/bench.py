"""`innervate bench`: run one of the benchmarks that `docs/benchmarks.md` quotes."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import typer
from rich.console import Console
from rich.table import Table

from stream.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "benchmarks"


def bench(context: typer.Context) -> None:
    """Measure latency, cost and accuracy on this machine: `innervate bench NAME [OPTIONS]`."""
    if not FOLDER.is_dir():
        raise ConfigError(
            "the benchmarks come with the source: run this in a checkout that was installed with"
            " `pip install -e .`"
        )
    names = {path.stem.replace("_", "-"): path for path in sorted(FOLDER.glob("[a-z]*.py"))}
    if not context.args or context.args[0] == "--help":
        _list(names)
        return
    name, *rest = context.args
    if name not in names:
        raise ConfigError(f"there is no benchmark '{name}'; there are {', '.join(names)}.")
    app = typer.Typer(add_completion=False)
    app.command(name)(_load(names[name]).run)
    app(rest, prog_name=f"innervate bench {name}", standalone_mode=False)


# The benchmark itself reads the options, `--help` included.
bench.context_settings = {  # type: ignore[attr-defined]
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def _list(names: dict[str, Path]) -> None:
    table = Table(box=None, padding=(0, 2), show_header=False)
    for name, path in names.items():
        # Read, not imported: a list needs none of the packages that the benchmarks need.
        about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        table.add_row(f"[bold]{name}[/]", about.partition("\n")[0])
    console = Console()
    console.print("innervate bench NAME \\[--json FILE] \\[OPTIONS]\n")
    console.print(table)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmarks.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Benchmarks start processes of their own, which import them by this name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
