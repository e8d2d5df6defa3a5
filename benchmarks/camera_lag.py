"""How well the lag between a camera and a MIDI keyboard is found in what both tell of the same."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks._results import JsonFile, show, write_result
from models.audeo.dataset import held_out_clips, load_clip, whole_strips
from stream.errors import RecordingError
from stream.music.collect.alignment import FILES_S, LIVE_S, Lag, estimate_lag, seen_onsets
from stream.music.heard import Heard
from stream.units import to_ns

CLIPS = {"unseen": 24, "seen": 12}
LAGS_S = {LIVE_S: (-0.9, -0.31, 0.0, 0.0637, 0.94), FILES_S: (-7.2, 0.0, 3.3)}
MISSED, OTHERS = 0.5, 0.3
"""Which share of what is seen is taken away, and how much that is wrong is added."""

WRONG_MS = 50


@dataclass(frozen=True)
class Filmed:
    """What was seen in a clip, and what was played in it."""

    name: str
    frames_ns: NDArray[np.int64]
    onsets: NDArray[np.int64]
    notes: list[Heard]


def run(
    rendered: Annotated[
        Path, typer.Argument(help="Folder of rendered clips, as of `evaluate audeo --rendered`.")
    ],
    json_path: JsonFile = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = 2,
) -> dict[str, Any]:
    """Shift what was played in rendered clips by known lags, and find these again.

    24 clips of 8 s are of looks of keyboards that no training of the network saw, 12 of others;
    their pieces, for two hands, no training played. `other music` takes each clip with the notes of
    each other one, `half seen` takes half of what is seen away and adds wrong keys.
    """
    console = Console()
    clips = list(_filmed(rendered, workers, console))
    random = np.random.default_rng(0)
    rows = [
        _row(f"up to {largest_s:g} s{what}", clips, largest_s, random if what else None)
        for largest_s, what in itertools.product(LAGS_S, ("", ", half seen"))
    ]
    rows += [_others(clips, largest_s) for largest_s in LAGS_S]
    conditions = {"clips": len(clips), "notes": sum(len(clip.notes) for clip in clips)}
    show(rows, console, "the lag of rendered cameras, found")
    return write_result("camera-lag", conditions, rows, json_path)


def _filmed(rendered: Path, workers: int, console: Console) -> Iterator[Filmed]:
    for looks, count in CLIPS.items():
        with console.status(f"rendering {looks} looks"):
            paths = held_out_clips(rendered, looks, count, workers)
        for path in track(paths, f"looking at {looks} looks", console=console):
            clip = load_clip(path)
            frames_ns = np.round(clip.times_s * 1e9).astype(np.int64)
            onsets = seen_onsets(zip(frames_ns.tolist(), whole_strips(clip), strict=True))
            notes = [Heard(int(pitch), 64, to_ns(at)) for pitch, at in clip.presses[:, :2]]
            yield Filmed(f"{looks} {path.stem}", frames_ns, onsets, notes)


def _row(
    what: str, clips: list[Filmed], largest_s: float, random: np.random.Generator | None
) -> dict[str, Any]:
    off_ms: list[float] = []
    refused = 0
    for clip, lag_s in itertools.product(clips, LAGS_S[largest_s]):
        seen = clip if random is None else _spoilt(clip, random)
        notes = [replace(note, on_ns=note.on_ns - to_ns(lag_s)) for note in clip.notes]
        lag = _found(seen, notes, largest_s)
        if lag is None:
            refused += 1
        else:
            off_ms.append(1e3 * (lag.seconds - lag_s))
    off = np.array(off_ms)
    return {
        "what": what, "tried": len(off) + refused, "refused": refused,
        "wrong": int((np.abs(off) > WRONG_MS).sum()), "mean_ms": round(float(off.mean()), 1),
        "sd_ms": round(float(off.std()), 1), "largest_ms": round(float(np.abs(off).max()), 1),
    }  # fmt: skip


def _others(clips: list[Filmed], largest_s: float) -> dict[str, Any]:
    what = f"up to {largest_s:g} s, other music"
    pairs = list(itertools.permutations(clips, 2))
    found = [_found(seen, played.notes, largest_s) is not None for seen, played in pairs]
    return {"what": what, "tried": len(pairs), "refused": found.count(False), "wrong": sum(found)}


def _spoilt(clip: Filmed, random: np.random.Generator) -> Filmed:
    kept = clip.onsets[random.random(len(clip.onsets)) >= MISSED]
    number = round(OTHERS * len(clip.onsets))
    others = np.column_stack(
        [random.choice(clip.frames_ns, number), random.choice(clip.onsets[:, 1], number)]
    )
    return replace(clip, onsets=np.concatenate([kept, others]))


def _found(seen: Filmed, notes: list[Heard], largest_s: float) -> Lag | None:
    try:
        return estimate_lag(seen.frames_ns, seen.onsets, notes, largest_s)
    except RecordingError:
        return None
