"""`innervate import`: files of many formats to one NWB file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from stream.errors import ConfigError
from stream.files import has_utf8_name
from stream.spikes.importing import import_files, list_variables
from stream.spikes.mapping import Mapping, load_mapping, make_mapping
from stream.spikes.nwb import read_recording, write_recording
from stream.spikes.recording import Recording
from stream.units import format_seconds


def import_recording(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Files to read: .mat, .npy, .npz, .h5, .csv, .tsv, .txt, or binary records."
            " Example: innervate import session.mat --map session.yaml --out session.nwb;"
            " or without a mapping file: innervate import session.mat --counts Y"
            " --width '50 ms' --behaviour hand=X --out session.nwb",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path | None, typer.Option(help="NWB file to write. Without it the variables are listed.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option("--map", help="YAML file that says which variable is what.")
    ] = None,
    counts: Annotated[str, typer.Option(help="Variable with binned counts.")] = "",
    axes: Annotated[
        str,
        typer.Option(help="Axes of the counts, such as 'unit x time' or 'trial x time x unit'."),
    ] = "time x unit",
    width: Annotated[str, typer.Option(help="Width of a bin, such as '50 ms'.")] = "",
    times: Annotated[str, typer.Option(help="Variable with spike times in seconds.")] = "",
    unit_of: Annotated[
        str, typer.Option(help="Variable with the unit of each spike, where one holds all times.")
    ] = "",
    behaviour: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VARIABLE, one sample a bin; may be given several times."),
    ] = None,
    name: Annotated[str, typer.Option(help="Identifier of the session.")] = "",
    licence: Annotated[str, typer.Option(help="Terms of the data, kept in the file.")] = "",
) -> None:
    """Turn a recording into one NWB file."""
    console = Console()
    options = _options(
        counts=counts, axes=axes, width=width, times=times, unit_of=unit_of,
        behaviour=behaviour or [], name=name, licence=licence,
    )  # fmt: skip
    if out is None:
        if mapping is not None or options:
            raise ConfigError("'--out' is missing: the NWB file to write.")
        for path in files:
            variables = "\n".join(f"  {escape(line)}" for line in list_variables(path))
            console.print(f"[bold]{escape(str(path))}[/]\n{variables}")
        return
    _check_out(out, files)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Reading", total=3)
        imported = import_files(files, _mapping(mapping, options))
        progress.update(task, advance=1, description="Writing")
        write_recording(
            imported.recording,
            out,
            imported.session,
            resolution_s=imported.resolution_s,
            notes=imported.notes,
        )
        progress.update(task, advance=1, description="Reading back")
        recording = read_recording(out)
        progress.update(task, advance=1)
    for remark in imported.remarks:
        console.print(f"[yellow]note:[/] {escape(remark)}")
    console.print(_summary(recording, out))


def _check_out(out: Path, files: list[Path]) -> None:
    if out.suffix.lower() != ".nwb" or out.is_dir() or not has_utf8_name(out):
        raise ConfigError(f"--out: {out} must be a file whose name ends in .nwb, in UTF-8.")
    if out.exists() and any(path.exists() and out.samefile(path) for path in files):
        raise ConfigError(
            f"--out: {out} is the file to read, which would be lost; give another name."
        )


def _options(
    *,
    counts: str,
    axes: str,
    width: str,
    times: str,
    unit_of: str,
    behaviour: list[str],
    name: str,
    licence: str,
) -> dict[str, Any]:
    """Return the part of a mapping that the options state."""
    given: dict[str, Any] = {}
    if counts:
        given["counts"] = {"variable": counts, "axes": axes} | ({"width": width} if width else {})
    if times:
        given["times"] = {"variable": times} | ({"unit": unit_of} if unit_of else {})
    for pair in behaviour:
        key, sign, variable = pair.partition("=")
        if not (sign and key and variable):
            raise ConfigError(f"'--behaviour' is NAME=VARIABLE, found '{pair}'.")
        given.setdefault("behaviour", {})[key] = variable
    given |= {key: value for key, value in (("name", name), ("licence", licence)) if value}
    return given


def _mapping(path: Path | None, options: dict[str, Any]) -> Mapping:
    if path is None:
        return make_mapping(options, "options")
    mapping = load_mapping(path)
    others = set(options) - {"name", "licence"}
    if others:
        raise ConfigError(
            f"'--{sorted(others)[0]}' stands beside '--map'; write it into the mapping file."
        )
    return mapping.model_copy(update=options)


def _summary(recording: Recording, out: Path) -> Table:
    table = Table(title=f"{recording.name} → {out}", title_justify="left", show_header=False)
    duration_s = recording.stop_s - recording.start_s
    n_units = len(recording.units)
    if recording.counts is not None:
        spikes = int(recording.counts.sum())
        kind = f"{len(recording.counts):,} bins of {format_seconds(recording.width_s or 0)}"
    else:
        spikes = sum(len(t) for t in recording.spike_times_s or ())
        kind = f"{spikes:,} spike times"
    rows = {
        "units": f"{n_units} ({_first(recording.units)})",
        "spikes": kind,
        "duration": f"{duration_s:.1f} s",
        "mean rate": f"{spikes / duration_s / n_units:.2f} Hz a unit",
        "segments": str(len(recording.segment_starts_s)),
        "trials": _trials(recording),
        "behaviour": "\n".join(
            f"{name}: {', '.join(series.columns)}"
            + (f" ({series.unit})" if series.unit else "")
            + f", {len(series.times_s):,} samples"
            for name, series in recording.behaviour.items()
        )
        or "none",
        "true rates": "yes" if recording.true_rates is not None else "",
        "licence": recording.licence or "none stated",
        "sha256": recording.sha256,
    }
    for key, value in rows.items():
        if value:
            table.add_row(key, escape(value))
    return table


def _first(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]} ... {names[-1]}"


def _trials(recording: Recording) -> str:
    if recording.trials is None:
        return "none"
    columns = ", ".join(recording.trials.columns)
    return f"{len(recording.trials.start_s)}" + (f" with {columns}" if columns else "")
