"""The command line: gathers the commands that packages declare, one file a command."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from stream.errors import ConfigError, InnervateError, MissingExtraError

# In the order in which a newcomer needs them; commands of other packages follow.
_ORDER = (
    "demo", "import", "train", "evaluate", "export", "label", "run", "top", "arm", "disarm",
    "check", "nodes", "inspect", "stability", "sweep", "recover", "fetch", "collect", "keyboard",
    "bench", "doctor", "schema",
)  # fmt: skip
_HELP = {
    "demo": "Simulated neurons, a shipped model, live rates: see it work in under a minute.",
    "import": "Turn a recording (MATLAB, NumPy, HDF5, CSV, spike times) into one NWB file.",
    "train": "Train a model on a recording.",
    "evaluate": "Measure a trained model and the baselines beside it.",
    "export": "Write a trained model as one verified .onnx file.",
    "label": "Label a few clips in a browser and get a recogniser of actions.",
    "run": "Run a pipeline live.",
    "top": "Watch a run that is going on: nodes, rates, latencies, drops.",
    "arm": "Let the firings of a trigger out, in a run that is going on.",
    "disarm": "Hold them back again; outputs go to their safe state at once.",
    "check": "Validate a pipeline file without starting anything.",
    "nodes": "List the nodes there are, with their settings.",
    "inspect": "Show the card of a model file.",
    "stability": "Measure how the state of a model file forgets: its largest Lyapunov exponent and"
    " its memory.\n\nEnds with 1 if the model is unstable.",
    "sweep": "Train every combination of settings a little, and only what is promising to its end."
    "\n\nWhat is promising is told by validation loss and Lyapunov spectrum of the first sixth of"
    " the updates. The best setting is then trained like `innervate train` does, into OUT/best.",
    "recover": "Make a valid NWB file of what a killed run had recorded.",
    "fetch": "Download a public data set, or a model.",
    "collect": "Record a camera and a MIDI keyboard as a training set for the piano.",
    "bench": "Measure latency, cost and accuracy on this machine.",
    "keyboard": "Show which keys of a piano are found in a picture or a video.",
    "doctor": "Say what this machine has, lacks and how well it keeps time.",
    "schema": "Print the JSON Schema of pipeline files, for editors.",
}
_EXTRA_OF_MODULE = {
    "torch": "train", "onnx": "train", "onnxscript": "train", "sklearn": "train",
    "matplotlib": "train", "scipy": "nwb", "pynwb": "nwb", "h5py": "nwb", "hdmf": "nwb",
    "pandas": "nwb", "mido": "audio", "rtmidi": "audio",
}  # fmt: skip


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="innervate.commands")}


class _Commands(TyperGroup):
    """Imports a command's file only when that command is called: `--help` stays quick."""

    def list_commands(self, ctx: Any) -> list[str]:
        there = _entries()
        return [*(n for n in _ORDER if n in there), *(n for n in there if n not in _ORDER)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _entries():
            return None
        return _command(cmd_name, lambda: None)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, stub, rest = super().resolve_command(ctx, args)
        return name, _command(name, _load(name)) if name else stub, rest


def _command(name: str, function: Callable[..., None]) -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    # A function that reads its options itself says so in an attribute of click's name.
    context_settings = getattr(function, "context_settings", None)
    app.command(name, help=_HELP.get(name), context_settings=context_settings)(function)
    return typer.main.get_command(app)


def _load(name: str) -> Callable[..., None]:
    entry = _entries()[name]
    try:
        function: Callable[..., None] = entry.load()
    except Exception as error:  # the code of others may raise anything
        if isinstance(error, ModuleNotFoundError) and _extra_of(error):
            raise
        package = f" of the package '{entry.dist.name}'" if entry.dist else ""
        raise ConfigError(
            f"the command '{name}'{package} cannot be loaded: {type(error).__name__}:"
            f" {str(error).rstrip('.')}."
        ) from error
    return function


def _extra_of(error: ModuleNotFoundError) -> str | None:
    return _EXTRA_OF_MODULE.get((error.name or "").partition(".")[0])


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"innervate {version('innervate')}")
        raise typer.Exit


def run_command_line() -> None:
    """Run the command line. Errors of the project end in one message and its exit code."""
    app = typer.Typer(
        cls=_Commands,
        no_args_is_help=True,
        add_completion=False,
        help="Streaming real-time inference: spikes or frames in; rates, movement or actions out.",
    )
    app.callback()(_options)
    try:
        _run(app)
    except InnervateError as error:
        _end(str(error), error.exit_code)
    except OSError as error:  # no room, no permission, a folder that went away
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror or error}.", 1)


def _end(message: str, exit_code: int) -> NoReturn:
    # Nobody may be left to read it, and rich would end the process with another exit code.
    with contextlib.suppress(OSError, SystemExit):
        Console(stderr=True, soft_wrap=True).print(
            Text.assemble(("error:", "bold red"), " ", message)
        )
    sys.exit(exit_code)


def _run(app: typer.Typer) -> None:
    try:
        app(prog_name="innervate")
    except SystemExit as ended:
        # What typer makes of Ctrl-C.
        if ended.code == 130:
            raise KeyboardInterrupt from None
        raise
    except ModuleNotFoundError as error:
        extra = _extra_of(error)
        if extra is None:
            raise
        raise MissingExtraError(f"innervate {' '.join(sys.argv[1:2])}", extra) from None


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Say which version this is."
        ),
    ] = False,
) -> None:
    pass
