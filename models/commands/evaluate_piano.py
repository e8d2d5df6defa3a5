"""`innervate evaluate audeo`: measure a piano network on renderings that no training saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from models.audeo.dataset import held_out_clips, load_clip
from models.audeo.evaluation import Tally, of_file, of_network, tally
from models.audeo.network import LOOK_AHEADS
from models.audeo.scores import Score
from models.audeo.trained import load_trained
from stream.model_file import read_contract
from stream.music.piano.piano_notes import BEGIN


def evaluate(
    system: Annotated[str, typer.Argument(help="audeo.")],
    *,
    model: Annotated[Path, typer.Option(help="Model file (.onnx), or folder of a training.")],
    rendered: Annotated[
        Path, typer.Option(help="Folder for the clips to measure on; rendered if not there yet.")
    ],
    looks: Annotated[
        str,
        typer.Option(help="`unseen`, a family that no training saw, `one` of it only, or `seen`."),
    ] = "unseen",
    clips: Annotated[int, typer.Option(min=1, help="How many clips of 8 s.")] = 24,
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = 2,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the table to this file.")
    ] = None,
) -> None:
    """Measure how well a network finds the notes of pieces that no training played.

    An .onnx file is stepped frame by frame, as it runs live, with the threshold that it names. The
    folder of a training gives a row for each look-ahead, each with the same threshold.
    """
    console = Console()
    # Before the clips, which take long to render.
    variants = _variants(model)
    paths = held_out_clips(
        rendered, looks, clips, workers,
        lambda jobs: track(jobs, "rendering", console=console, transient=True),
    )  # fmt: skip
    rows = []
    for late, run, begin in variants:
        scores = tally((load_clip(path) for path in paths), run, begin, late)
        rows.append({"model": model.name, "looks": looks, "look_ahead": late, "begin": begin,
                     **_row(scores)})  # fmt: skip
        _show(console, rows[-1], scores)
    if json_file is not None:
        content = {"name": "evaluate audeo", "conditions": {"clips": clips}, "rows": rows}
        json_file.write_text(json.dumps(content, indent=1))


def _variants(model: Path) -> list[tuple[int, Any, float]]:
    if not model.is_dir():
        run, late = of_file(model)
        return [(late, run, read_contract(model).threshold or BEGIN)]
    trained = load_trained(model)
    begin = trained.card.threshold or BEGIN
    return [
        (late, of_network(trained.network, late, None if late else trained.decoder), begin)
        for late in LOOK_AHEADS
    ]


def _row(scores: Tally) -> dict[str, float]:
    row = {"onset_f1_50ms": scores.tight.f1, "onset_f1_100ms": scores.loose.f1,
           "onset_precision_50ms": scores.tight.precision,
           "onset_recall_50ms": scores.tight.recall, "frame_f1": scores.frames.f1,
           "notes": scores.tight.true}  # fmt: skip
    for kind, bands in scores.apart.items():
        row |= {f"onset_f1_50ms_{kind}_{name}": score.f1 for name, score in bands.items()}
    return row


def _show(console: Console, row: dict[str, Any], scores: Tally) -> None:
    table = Table(
        title=f"{row['model']}, {row['looks']} looks, look-ahead {row['look_ahead']} frames",
        box=None,
    )
    for column in ("", "notes", "precision", "recall", "F1"):
        table.add_column(column, justify="right" if column else "left")

    def line(name: str, score: Score) -> None:
        table.add_row(
            name, str(score.true), f"{score.precision:.3f}", f"{score.recall:.3f}",
            f"{score.f1:.3f}",
        )  # fmt: skip

    line("onset within 50 ms", scores.tight)
    line("onset within 100 ms", scores.loose)
    line("frames", scores.frames)
    for kind, bands in scores.apart.items():
        for name, score in sorted(bands.items()):
            if score.true:
                line(f"  {kind}: {name}", score)
    console.print(table)
