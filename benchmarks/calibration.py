"""What a minute of video without labels brings on keyboards unlike those of the training."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks._results import JsonFile, Row, show, write_result
from benchmarks._unknown_keyboards import PIECES, RATE_HZ, TAKE_S, filmed, keyboard
from models.audeo.calibration import CalibrationSettings, calibrate, opinion, taught_by
from models.audeo.evaluation import THRESHOLDS, notes_of
from models.audeo.network import PianoNetwork, along
from models.audeo.notes import Note, Truth, in_order
from models.audeo.recipe import TEACHER
from models.audeo.rendering.scores import read_scores
from models.audeo.scores import Score, match
from models.audeo.trained import Trained, load_trained
from stream.errors import ConfigError

START = Path(__file__).parents[1] / "models" / "zoo" / "piano"
HALVES = {"development": range(5), "held-back": range(5, 10)}
PART_S = 60.0
"""Seconds to get used to, and as many after them to be scored on."""

ZERO = Score(0, 0, 0)


@dataclass(frozen=True)
class Measured:
    """A keyboard before and after: scores of onsets within 50 and 100 ms by threshold.

    `begin` are the thresholds of the two files, before and after.
    """

    name: str
    before: dict[float, tuple[Score, Score]]
    after: dict[float, tuple[Score, Score]]
    begin: tuple[float, float]
    cpu_s: float


def run(
    json_path: JsonFile = None,
    start: Annotated[Path, typer.Option(help="Folder of the trained network.")] = START,
    half: Annotated[str, typer.Option(help="development or held-back.")] = "held-back",
) -> dict[str, Any]:
    """Let a network get used to the first minute of rendered keyboards, and score the second.

    Each side is scored at the threshold of its file, and at the one that is best for all five
    keyboards together. The times are of one core, without looking for the keyboard.
    """
    if half not in HALVES:
        raise ConfigError(f"--half: it is development or held-back, found '{half}'.")
    torch.set_num_threads(1)
    trained, teacher = load_trained(start), load_trained(TEACHER).network
    console = Console()
    with TemporaryDirectory() as cache:
        scores = read_scores(PIECES, Path(cache))
    measured = []
    for number in track(HALVES[half], "keyboards", console=console):
        board = keyboard(number)
        strips: list[NDArray[np.uint8]] = []
        notes: list[Note] = []
        for seen, presses in filmed(board, scores, round(2 * PART_S / TAKE_S)):
            begin_s = TAKE_S * len(strips)
            notes += [Note(p.pitch, p.bottom_s + begin_s, p.release_s + begin_s) for p in presses]
            strips.append(seen)
        measured.append(
            measure(f"{number} {board.kind}", trained, teacher, np.concatenate(strips), notes)
        )
    rows = table(measured)
    show(rows, console, "onset F1 in the second minute")
    conditions = {"half": half, "start": str(start), "rate_hz": RATE_HZ, "part_s": PART_S}
    return write_result("calibration", conditions, rows, json_path)


def measure(
    name: str,
    trained: Trained,
    teacher: PianoNetwork,
    strips: NDArray[np.uint8],
    notes: Iterable[Note],
) -> Measured:
    """Score a network as it is and used to the first half, on the second half of strips.

    With its decoder, if it has one, as the exported file does.
    """
    times_s = np.arange(len(strips)) / RATE_HZ
    first = len(strips) // 2
    truth = Truth(in_order(notes))
    began = time.process_time()
    seen = along(trained.network, strips[:first])
    used, begin = calibrate(
        trained.network,
        seen,
        times_s[:first],
        taught_by(trained.network, seen, teacher, strips[:first]),
        CalibrationSettings(),
        decoder=trained.decoder,
    )
    spent_s = time.process_time() - began
    features = along(trained.network, strips)

    def scores(network: PianoNetwork) -> dict[float, tuple[Score, Score]]:
        found = opinion(network, features, decoder=trained.decoder)
        span_s = (times_s[first], times_s[-1])
        by_threshold = {}
        for threshold in THRESHOLDS:
            said = notes_of(found, times_s, threshold)
            tight, loose = (match(said, truth, s, span_s=span_s).score for s in (0.05, 0.1))
            by_threshold[threshold] = (tight, loose)
        return by_threshold

    own = trained.card.threshold or 0.5
    return Measured(name, scores(trained.network), scores(used), (own, begin), spent_s)


def table(measured: Sequence[Measured]) -> list[Row]:
    """Return a row for each keyboard, and for all at the files' thresholds and at the best."""
    rows = []
    total = np.array([[ZERO, ZERO], [ZERO, ZERO]])
    for board in measured:
        both = np.array([board.before[board.begin[0]], board.after[board.begin[1]]])
        total = total + both
        rows.append(_row(board.name, both, board.begin) | {"cpu_s": round(board.cpu_s, 1)})
    rows.append(_row("all", total, None))
    best = []
    for side in ("before", "after"):
        sums = {
            threshold: np.sum([getattr(board, side)[threshold] for board in measured], axis=0)
            for threshold in THRESHOLDS
        }
        best.append(max(sums.items(), key=lambda item: item[1][0].f1))
    return [*rows, _row("all, best", np.array([b[1] for b in best]), (best[0][0], best[1][0]))]


def _row(name: str, both: Any, begin: tuple[float, float] | None) -> Row:
    """Return scores (2, 2), as it is and used to it, within 50 and 100 ms, as a row."""
    row: Row = {"keyboard": name, "notes": both[0, 0].true}
    for late, ms in enumerate((50, 100)):
        before, after = both[0, late].f1, both[1, late].f1
        row |= {
            f"as_it_is_{ms}": round(before, 3), f"used_to_it_{ms}": round(after, 3),
            f"gain_{ms}": round(after - before, 3),
        }  # fmt: skip
    if begin is not None:
        row |= {"begin": begin[0], "begin_used": begin[1]}
    return row
