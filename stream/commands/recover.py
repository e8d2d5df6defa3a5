"""`innervate recover`: from the log that a killed run left to an NWB file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from stream.errors import ConfigError, RecordingError
from stream.files import format_bytes
from stream.recording_log import is_being_written
from stream.recording_nwb import finish_log


def recover(
    log: Annotated[Path, typer.Argument(help="Log that the run left: NAME.nwb.log.")],
    out: Annotated[
        Path | None, typer.Option(help="NWB file to write; NAME.nwb beside the log by default.")
    ] = None,
) -> None:
    """Make a valid NWB file of what a killed run had recorded."""
    if not log.is_file():
        raise ConfigError(f"{log} is not there, or is no file.")
    if out is None:
        if log.suffixes[-2:] != [".nwb", ".log"]:
            raise ConfigError(
                f"{log.name} does not end in '.nwb.log'; say with --out what the file is to be."
            )
        out = log.with_suffix("")
    if out.suffix != ".nwb":
        raise ConfigError(f"--out: an NWB file ends in '.nwb', found '{out.name}'.")
    if not out.parent.is_dir():
        raise ConfigError(f"the folder {out.parent} is not there; create it first.")
    if is_being_written(log):
        raise RecordingError(f"{log} is being written by a run; it closes the recording itself.")
    console = Console(soft_wrap=True)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(escape(out.name), total=1.0)
        done = finish_log(log, out, lambda share: bar.update(task, completed=share))
    table = Table(title=escape(str(done.file)), title_justify="left")
    for column in ("stream", "packets", "known to be missing"):
        table.add_column(column, justify="left" if column == "stream" else "right")
    for stream, packets in done.packets.items():
        table.add_row(stream, str(packets), str(done.missing[stream]))
    console.print(table)
    if done.damaged:
        console.print(
            f"{format_bytes(done.lost_bytes)} in {done.damaged} places of the log were damaged and"
            f" are not in the file. The log is kept: {escape(str(log))}"
        )
    elif done.lost_bytes:
        console.print(
            f"The log ended in {format_bytes(done.lost_bytes)} of an unfinished packet, which are"
            " not in the file."
        )
