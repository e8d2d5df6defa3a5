"""How often the keys of a piano are found right in frames that were checked by eye."""

from __future__ import annotations

import itertools
import json
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks._results import JsonFile, show, write_result
from stream.errors import ConfigError
from stream.music.finder.finding import SURE, find_keyboard, to_work
from stream.music.keyboard import KeyGrid, no_grid
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2
from stream.vision.video_file import VideoFile

TRUTH = Path(__file__).with_suffix(".json")
ALONG, ACROSS = 1 / 3, 1 / 2
"""How far, in white keys, lines may be off along the keyboard, and levels across it."""
VERDICTS = ("right", "wrong", "missed", "refused")
MISSING = 2
"""How many lines at the edges of the picture may be missing."""


def run(
    data: Annotated[Path, typer.Argument(help="Folder with the files that keyboards.json names.")],
    json_path: JsonFile = None,
    half: Annotated[str, typer.Option(help="development, held-back or both.")] = "both",
    frames: Annotated[bool, typer.Option("--frames", help="Print each frame, too.")] = False,
) -> dict[str, Any]:
    """Search each frame of the list for itself, and compare with where its keys are.

    Right means: the names are right, every line in view is within a third of a white key along the
    keyboard at all three levels, and the levels are within half of one. Where the octave cannot be
    seen, any octave is right if the finder says that it assumes it. Of several keyboards any will
    do. Wrong means: accepted, and not right.
    """
    listed = json.loads(TRUTH.read_text())["pictures"]
    halves = ("development", "held-back") if half == "both" else (half,)
    console = Console()
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    spent: list[float] = []
    for entry in listed:
        if entry["half"] not in halves:
            continue
        for name, picture in _pictures(data, entry):
            start = time.process_time()
            found = find_keyboard(to_work(picture))
            spent.append(time.process_time() - start)
            accepted = found is not None and found.confidence >= SURE
            grid = found.grid(*picture.shape[:2]) if found is not None and accepted else no_grid()
            assumed = found is not None and found.octave == "assumed"
            verdict = "refused" if entry["kind"] == "none" else "missed"
            if accepted:
                free = assumed and not entry["octave"]
                right = any(_right(grid, board, free, picture) for board in entry["boards"])
                verdict = "right" if right else "wrong"
            counts[entry["half"], entry["kind"]][verdict] += 1
            if frames:
                sure = found.confidence if found is not None else 0.0
                console.print(f"{name} {entry['kind']} {verdict} {sure:.2f}", highlight=False)
    if not spent:
        raise ConfigError("--half: it is development, held-back or both.")
    rows = [_row(where, kind, count) for (where, kind), count in sorted(counts.items())]
    for where in halves:
        own = [row for row in rows if row["half"] == where and row["kind"] != "none"]
        whole = [row for row in rows if row["half"] == where]
        boards = sum(row["pictures"] for row in own)
        rows.append(
            {
                "half": where, "kind": "all", "pictures": sum(row["pictures"] for row in whole),
                **{verdict: sum(row[verdict] for row in whole) for verdict in VERDICTS},
                "right_percent": round(100 * sum(row["right"] for row in own) / max(1, boards), 1),
            }
        )  # fmt: skip
    conditions = {
        "cpu_s_p50": round(float(np.median(spent)), 3), "cpu_s_max": round(max(spent), 3),
        "sure": SURE, "python": platform.python_version(),
    }  # fmt: skip
    show(rows, console)
    console.print(
        f"CPU time of a picture: {conditions['cpu_s_p50']} s (p50), {conditions['cpu_s_max']} s"
        " (most)"
    )
    return write_result("keyboards", conditions, rows, json_path)


def _row(where: str, kind: str, count: dict[str, int]) -> dict[str, Any]:
    known = {verdict: count.get(verdict, 0) for verdict in VERDICTS}
    return {"half": where, "kind": kind, "pictures": sum(known.values()), **known}


def _pictures(data: Path, entry: dict[str, Any]) -> Iterator[tuple[str, Frame]]:
    path = data / entry["file"]
    if "times_s" in entry:
        video = VideoFile(path)
        for time_s in entry["times_s"]:
            for _, frame in itertools.islice(video.frames(time_s), 1):
                yield f"{path.name} {time_s:g} s", frame
        return
    picture = load_cv2("The benchmark 'keyboards'").imread(str(path))
    if picture is None:
        raise ConfigError(f"{path} is not there, or is no picture.")
    yield path.name, picture


def lines_of(board: list[list[float]]) -> KeyGrid:
    """Return the grid of a keyboard from some of its lines: number, and x, y at each level."""
    known = np.array(board)
    numbers = np.arange(int(known[0, 0]), int(known[-1, 0]) + 1)
    grid = no_grid()
    for level, axis in itertools.product(range(3), range(2)):
        grid[level, numbers, axis] = np.interp(numbers, known[:, 0], known[:, 1 + 2 * level + axis])
    return grid


def _right(grid: KeyGrid, board: list[list[float]], free: bool, picture: Frame) -> bool:
    height, width = picture.shape[:2]
    true = lines_of(board)
    x, y = true[1].T
    in_view = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    for octave in range(-6, 7) if free else (0,):
        shifted = no_grid()
        start, end = max(0, 7 * octave), min(53, 53 + 7 * octave)
        shifted[:, start:end] = grid[:, start - 7 * octave : end - 7 * octave]
        both = in_view & np.isfinite(shifted).all(axis=(0, 2))
        if both.sum() < in_view.sum() - MISSING or both.sum() < 8:
            continue
        along, across = _off(shifted, true)
        if along[:, both].max() <= ALONG and across[:, both].max() <= ACROSS:
            return True
    return False


def _off(grid: KeyGrid, true: KeyGrid) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return how far points are off along and across the keyboard, in white keys."""
    known = np.flatnonzero(np.isfinite(true).all(axis=(0, 2)))
    step = np.full_like(true, np.nan)
    step[:, known] = np.gradient(true[:, known], axis=1)
    size = np.linalg.norm(step, axis=-1)
    apart = grid - true
    along = np.abs((apart * step).sum(-1)) / size**2
    across = np.abs(apart[..., 0] * step[..., 1] - apart[..., 1] * step[..., 0]) / size**2
    return along, across
