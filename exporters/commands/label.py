"""`innervate label`: a local page by which a few labelled clips become a recogniser."""

from __future__ import annotations

import contextlib
import signal
import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from exporters.labelled import export_labelled
from models.labelling.clips import load_session_clips
from models.labelling.server import LabelServer
from models.labelling.session import Session
from models.labelling.training import Effort
from stream.errors import ConfigError
from stream.units import parse_hertz


def label(
    *,
    data: Annotated[list[Path], typer.Option(help="Clips of skeletons, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder of the session; goes on if it is there.")],
    rate: Annotated[
        str | None, typer.Option(help="Frames a second of clips without times, such as '30 Hz'.")
    ] = None,
    updates: Annotated[int, typer.Option(min=1, help="Optimiser steps of a round.")] = 200,
    pretraining: Annotated[
        int, typer.Option(min=0, help="Optimiser steps before the first label.")
    ] = 200,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser.")] = False,
) -> None:
    """Label a few clips that the system picks, in a browser, and get a recogniser.

    Ctrl-C ends it; the same command goes on with all labels.
    """
    console = Console(soft_wrap=True, highlight=False)
    with console.status("reading clips"):
        clips = load_session_clips(data, _rate_hz(rate))
    for name, reason in clips.left_out.items():
        console.print(f"left out: '{name}' {reason}", markup=False)
    session = Session(out, clips, Effort(pretraining, updates), export_labelled)
    with contextlib.closing(session), LabelServer(session) as server:
        # Whoever ends it by a signal ends it like Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        console.print(f"{len(clips.names)} clips. Ctrl-C ends; labels are kept in {out}.")
        # Not through rich, which may break or colour it: scripts read this line.
        typer.echo(server.url)
        if not no_open:
            webbrowser.open(server.url)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    console.print(f"\nlabels are in {out}; go on with the same command.")


def _rate_hz(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_hertz(text)
    except ValueError as error:
        raise ConfigError(f"--rate: {error}.") from None
