"""`innervate fetch`: public data sets from the DANDI archive, and a model that is not shipped."""

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
from stream.music import basic_pitch
from stream.spikes.fetching import DATA_SETS, SERVER, fetch_asset, find_data_set, list_assets


def fetch(
    name: Annotated[
        str,
        typer.Argument(
            help="Data set, such as mc_maze, or model; --list shows all.", show_default=False
        ),
    ] = "",
    *,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the files; data without it, for a model the user's cache.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option("--list", help="List the data sets, or the files of NAME, and fetch nothing."),
    ] = False,
    server: Annotated[str, typer.Option(help="Interface of the archive.")] = SERVER,
) -> None:
    """Download a data set of the Neural Latents Benchmark, or a model; resumes and verifies."""
    console = Console()
    if not name:
        if not show:
            raise ConfigError(
                f"which data set? There are {', '.join(DATA_SETS)}, and the model"
                f" {basic_pitch.NAME}."
            )
        table = Table(title="Neural Latents Benchmark 2021", title_justify="left")
        for column in ("name", "DANDI", "what"):
            table.add_column(column)
        for data in DATA_SETS.values():
            table.add_row(data.name, data.dandiset, data.what)
        console.print(table)
        console.print(f"{basic_pitch.NAME} {basic_pitch.VERSION}: {basic_pitch.WHAT}")
        return
    if name == basic_pitch.NAME:
        if show:
            console.print(f"{basic_pitch.NAME} {basic_pitch.VERSION}: {basic_pitch.WHAT}")
            return
        path = basic_pitch.fetch_model(to or basic_pitch.cache_folder())
        console.print(f"{escape(str(path))}: sha256 verified", soft_wrap=True)
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
    folder = (to or Path("data")) / data.name
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
