"""`innervate keyboard`: show which keys are found in a picture or a video."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from stream.commands.output import check_file
from stream.errors import ConfigError, RecordingError
from stream.files import check_there
from stream.music.finder.drawing import draw_grid
from stream.music.finder.finding import SURE, Keyboard, find_keyboard, to_work
from stream.music.finder.layouts import check_layout
from stream.music.keyboard import KEY_NAMES, KeyGrid, keys_in_view
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2
from stream.vision.video_file import VideoFile

_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
_FRAMES, _APART = 5, 10
_OCTAVE = {
    "seen": "by an end of the keyboard",
    "given": "as the options say",
    "assumed": "not seen: middle C is taken to be near the middle; --lowest tells it",
}


def keyboard(
    file: Annotated[Path, typer.Argument(help="Picture or video.")],
    out: Annotated[
        Path | None, typer.Option(help="Write the picture with the keys drawn in, .png or .jpg.")
    ] = None,
    keys: Annotated[
        int | None, typer.Option(help="How many keys the keyboard has; by default as seen.")
    ] = None,
    lowest: Annotated[
        str | None,
        typer.Option(help="Name of the first white key in view, such as C2; by default as seen."),
    ] = None,
) -> None:
    """Find the keys of a piano in a picture or video, and say how sure that is.

    Exit code 1 if no keyboard is found.
    """
    check_layout(keys, lowest)
    check_file("--out", out)
    if out is not None and out.suffix.lower() not in _PICTURES:
        raise ConfigError(f"--out: {out.name} is no picture; give a name ending in .png or .jpg.")
    check_there(file)
    console = Console()
    frames = _frames(file)
    picture = frames[0]
    work = np.median(np.stack([to_work(frame) for frame in frames]), axis=0).astype(np.float32)
    found = find_keyboard(work, keys, lowest)
    if found is None or found.confidence < SURE:
        reason = "nothing has the pattern of black keys" if found is None else found.reason
        console.print(f"no keyboard: {reason}", soft_wrap=True)
        if found is not None:
            console.print(f"confidence {found.confidence:.2f}, {SURE} is needed")
    else:
        _show(found, found.grid(*picture.shape[:2]), console)
    if out is not None:
        if found is not None:
            draw_grid(picture, found.grid(*picture.shape[:2]))
        _write(out, picture)
    if found is None or found.confidence < SURE:
        raise typer.Exit(1)


def _frames(file: Path) -> list[Frame]:
    """Return the picture in a file, or some frames of a video."""
    if file.suffix.lower() not in _PICTURES:
        frames = (frame for _, frame in VideoFile(file).frames())
        return list(itertools.islice(frames, 0, _FRAMES * _APART, _APART))
    cv2 = load_cv2("innervate keyboard")
    picture = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise RecordingError(
            f"{file} cannot be read as a picture; give a .png or .jpg, or a video."
        )
    return [picture]


def _show(found: Keyboard, grid: KeyGrid, console: Console) -> None:
    shown = np.flatnonzero(keys_in_view(grid))
    console.print(
        f"{len(shown)} keys in view, {KEY_NAMES[shown[0]]} to {KEY_NAMES[shown[-1]]}, of a keyboard"
        f" of {found.keys}",
        soft_wrap=True,
    )
    doubt = f" ({found.reason})" if found.reason else ""
    console.print(f"confidence {found.confidence:.2f}{doubt}", soft_wrap=True)
    console.print(f"octave {found.octave}: {_OCTAVE[found.octave]}", soft_wrap=True)
    lines = np.flatnonzero(np.isfinite(grid).all(axis=(0, 2)))
    ends = [grid[0, lines[0]], grid[0, lines[-1]], grid[2, lines[-1]], grid[2, lines[0]]]
    corners = ", ".join(f"[{x:.0f}, {y:.0f}]" for x, y in ends)
    console.print(f"corners: [{corners}]", soft_wrap=True, markup=False)


def _write(path: Path, picture: Frame) -> None:
    cv2 = load_cv2("innervate keyboard")
    ok, content = cv2.imencode(path.suffix, picture)
    if not ok:
        raise RecordingError(f"{path} could not be written as a picture.")
    path.write_bytes(content.tobytes())
