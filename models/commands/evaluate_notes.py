"""`innervate evaluate notes` and `evaluate sound`: how well music for the piano was found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.audeo.ear import Ear
from models.audeo.fingerprint import fingerprint, identify
from models.audeo.notes import Notes, Truth, piano_roll, read_midi, read_truth, shifted
from models.audeo.scores import (
    LOOSE_ONSET_S,
    Score,
    Span,
    best_shift,
    colours,
    frame_score,
    match,
    published_score,
    zones,
)
from models.commands.options import seconds
from stream.commands.output import check_file, write_json
from stream.errors import ConfigError

FRAMES_HZ = 60.0
"""Frames a second of frame scores, as V2N has them."""
PUBLISHED_HZ = 25.0
"""Frames a second of the Audeo paper."""

TruthFile = Annotated[
    Path, typer.Option("--truth", help="What was played: .mid, or .json marked by hand.")
]
OneOffset = Annotated[
    bool,
    typer.Option(
        "--one-offset", help="Shift all notes by the one time that fits best; it is told."
    ),
]
From = Annotated[str | None, typer.Option("--from", help="Score from here on, such as 13s.")]
To = Annotated[str | None, typer.Option("--to", help="Score up to here, such as 26s.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the table to this file.")]


def evaluate_notes(
    system: Annotated[str, typer.Argument(help="notes.")],
    found: Annotated[Path, typer.Argument(help="Notes that were found, .mid.")],
    *,
    truth: TruthFile,
    one_offset: OneOffset = False,
    start: From = None,
    end: To = None,
    json_file: Json = None,
) -> None:
    """Score notes against a truth: onsets at 50 and 100 ms, offsets, frames."""
    check_file("--json", json_file)
    asked = _Asked(read_truth(truth), start, end, one_offset)
    conditions = {"found": found.name, "truth": truth.name}
    _report(read_midi(found), asked, conditions, json_file)


def evaluate_sound(
    system: Annotated[str, typer.Argument(help="sound.")],
    sound: Annotated[Path, typer.Argument(help="Sound of a piano, .wav.")],
    *,
    truth: TruthFile,
    references: Annotated[
        Path | None,
        typer.Option(help="Folder of recordings (.wav), among which the sound is looked for."),
    ] = None,
    ear: Annotated[
        Path | None,
        typer.Option(
            help="Model that hears; without it, what `innervate fetch basic-pitch` brought.",
            show_default=False,
        ),
    ] = None,
    one_offset: OneOffset = False,
    start: From = None,
    end: To = None,
    json_file: Json = None,
) -> None:
    """Hear which notes are in a sound, and score them; tell which recording it is most like."""
    check_file("--json", json_file)
    asked = _Asked(read_truth(truth), start, end, one_offset)
    conditions: dict[str, Any] = {"sound": sound.name, "truth": truth.name, "ear": "Basic Pitch"}
    console = Console()
    if references is not None:
        conditions["references"] = _recognise(console, sound, references)
    with console.status("listening"):
        heard = Ear(ear).hear_file(sound)
    _report(heard, asked, conditions, json_file)


def _recognise(console: Console, sound: Path, folder: Path) -> list[dict[str, Any]]:
    paths = sorted(folder.glob("*.wav"))
    if not paths:
        raise ConfigError(f"--references: there are no .wav files in {folder}.")
    found = identify(fingerprint(sound), {path.stem: fingerprint(path) for path in paths})
    table = Table("most like", box=None, pad_edge=False)
    table.add_column("bits that differ", justify="right")
    for likeness in found:
        table.add_row(escape(likeness.reference), f"{likeness.bit_error:.3f}")
    console.print(table)
    return [asdict(likeness) for likeness in found]


@dataclass(frozen=True)
class _Asked:
    truth: Truth
    start: str | None
    end: str | None
    one_offset: bool

    def span(self, found: Notes) -> Span:
        """Return the part of the clip that is scored."""
        last = max((note.offset_s for note in (*found, *self.truth.notes)), default=0.0)
        whole = self.truth.span_s or (0.0, last)
        start = whole[0] if self.start is None else seconds("--from", self.start)
        end = whole[1] if self.end is None else seconds("--to", self.end)
        if start >= end:
            raise ConfigError(
                f"there is nothing to score from {start:g} s to {end:g} s; give --from before --to."
            )
        return start, end


def _report(
    found: Notes, asked: _Asked, conditions: dict[str, Any], json_file: Path | None
) -> None:
    truth, span = asked.truth, asked.span(found)
    shift = best_shift(found, truth, span) if asked.one_offset else 0.0
    found = shifted(found, shift)
    rows, frames = _rows(found, truth, span), _frames(found, truth, span)
    console = Console()
    _show(console, rows, frames)
    if asked.one_offset:
        console.print(f"All notes are moved by {1000 * shift:+.0f} ms, which fits this truth best.")
    if json_file is not None:
        conditions |= {"from_s": span[0], "to_s": span[1], "shift_s": shift}
        conditions["unsure"] = len(truth.unsure)
        content = {"name": "evaluate", "conditions": conditions, "rows": [*rows, *frames]}
        write_json("--json", json_file, content)


def _rows(found: Notes, truth: Truth, span: Span) -> list[dict[str, Any]]:
    tight = match(found, truth, span_s=span)
    loose = match(found, truth, LOOSE_ONSET_S, span_s=span)
    both = match(found, truth, offsets=True, span_s=span)
    rows = [_row("all", tight.score, loose.score, both.score)]
    for groups in (colours(), zones()):
        parts = [matched.by_key(groups) for matched in (tight, loose, both)]
        for name in parts[0]:
            rows.append(_row(name, *(scores[name] for scores in parts)))
    return rows


def _row(name: str, tight: Score, loose: Score, both: Score) -> dict[str, Any]:
    return {
        "what": name, "true": tight.true, "found": tight.found,
        "precision_50": tight.precision, "recall_50": tight.recall, "f1_50": tight.f1,
        "precision_100": loose.precision, "recall_100": loose.recall, "f1_100": loose.f1,
        "f1_with_offset": both.f1,
    }  # fmt: skip


def _frames(found: Notes, truth: Truth, span: Span) -> list[dict[str, Any]]:
    cells = frame_score(*_rolls(found, truth, span, FRAMES_HZ))
    published = published_score(*_rolls(found, truth, span, PUBLISHED_HZ))
    return [
        {
            "what": f"frames at {FRAMES_HZ:g} Hz",
            "precision": cells.precision, "recall": cells.recall, "f1": cells.f1,
        },
        {"what": f"as in the Audeo paper, {PUBLISHED_HZ:g} Hz", **asdict(published)},
    ]  # fmt: skip


def _rolls(
    found: Notes, truth: Truth, span: Span, rate_hz: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    a, b, unsure = (piano_roll(n, rate_hz, span) for n in (found, truth.notes, truth.unsure))
    return a & (b | ~unsure), b


def _show(console: Console, rows: list[dict[str, Any]], frames: list[dict[str, Any]]) -> None:
    table = Table("keys", box=None, pad_edge=False)
    for title in ("true", "found", "P 50", "R 50", "F1 50", "P 100", "R 100", "F1 100", "F1 off"):
        table.add_column(title, justify="right")
    for row in rows:
        what, *numbers = row.values()
        table.add_row(what, *(f"{n:.3f}" if isinstance(n, float) else str(n) for n in numbers))
    console.print(table)
    for row in frames:
        console.print(
            f"{row['what']}: "
            + ", ".join(f"{name} {value:.3f}" for name, value in row.items() if name != "what"),
            soft_wrap=True,
        )
