"""`innervate fetch`: public data sets from the DANDI archive."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from stream.errors import ConfigError
from stream.spikes.fetching import DATA_SETS, SERVER, fetch_asset, find_data_set, list_assets


def fetch(
    name: Annotated[
        str, typer.Argument(help="Data set, such as mc_maze; --list shows all.", show_default=False)
    ] = "",
    *,
    to: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("data"),
    show: Annotated[
        bool,
        typer.Option("--list", help="List the data sets, or the files of NAME, and fetch nothing."),
    ] = False,
    server: Annotated[str, typer.Option(help="Interface of the archive.")] = SERVER,
) -> None:
    """Download a data set of the Neural Latents Benchmark; resumes and verifies."""
    console = Console()
    if not name:
        if not show:
            raise ConfigError(f"which data set? There are {', '.join(DATA_SETS)}.")
        table = Table(title="Neural Latents Benchmark 2021", title_justify="left")
        for column in ("name", "DANDI", "what"):
            table.add_column(column)
        for data in DATA_SETS.values():
            table.add_row(data.name, data.dandiset, data.what)
        console.print(table)
        return
    data = find_data_set(name)
    assets = list_assets(data, server)
    if show:
        table = Table(title=f"{data.name}: {data.what}", title_justify="left")
        table.add_column("file", overflow="fold")
        table.add_column("bytes", justify="right")
        table.add_column("sha256", overflow="fold")
        for asset in assets:
            table.add_row(escape(asset.path), f"{asset.size:,}", asset.sha256 or "not stated")
        console.print(table)
        return
    folder = to / data.name
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(), console=console,
    ) as progress:  # fmt: skip
        for asset in assets:
            task = progress.add_task(escape(Path(asset.path).name), total=asset.size)

            def show_progress(done: int, task: TaskID = task) -> None:
                progress.update(task, completed=done)

            def show_note(text: str) -> None:
                console.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True)

            path = fetch_asset(asset, folder, show_progress, show_note)
            verified = "sha256 verified" if asset.sha256 else "no checksum stated, size verified"
            console.print(f"{escape(str(path))}: {asset.size:,} bytes, {verified}", soft_wrap=True)
