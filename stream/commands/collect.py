"""`innervate collect`: a camera and a MIDI keyboard, or recordings of them, to a training set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn

from stream.commands.run import parse_duration
from stream.errors import ConfigError, RecordingError, RunError
from stream.music.collect import collecting
from stream.music.collect.collection import load_grid, write_grid
from stream.music.keyboard import KeyGrid
from stream.plan import Plan
from stream.vision.frames import Frame


def collect(
    out: Annotated[Path, typer.Argument(help="Folder to make for the set.", show_default=False)],
    *,
    camera: Annotated[
        str | None, typer.Option(help="Number of a camera (0), its path, or its address.")
    ] = None,
    midi: Annotated[
        str | None,
        typer.Option(help="MIDI input by a part of its name; by default the only one."),
    ] = None,
    duration: Annotated[
        str | None,
        typer.Option("--for", help="Stop after this long, such as '10 min'; by default at Ctrl-C."),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="A video instead of a camera, with '--midi-file'.")
    ] = None,
    midi_file: Annotated[
        Path | None, typer.Option(help="What was played in the video, as a MIDI file.")
    ] = None,
    keyboard: Annotated[
        Path | None,
        typer.Option(help="Where the keys are: the keyboard.npz of a set of the same view."),
    ] = None,
    finish: Annotated[
        bool, typer.Option("--finish", help="Complete a set that was cut short.")
    ] = False,
) -> None:
    """Record a training set for the piano; Ctrl-C ends it and completes the set."""
    console = Console()
    duration_s = parse_duration(duration)
    _check(
        {
            "--camera": camera, "--midi": midi, "--for": duration, "--video": video,
            "--midi-file": midi_file, "--finish": finish,
        }
    )  # fmt: skip
    collecting.check_extras()
    grid = None if keyboard is None else load_grid(keyboard)
    gone = ""
    if finish:
        collecting.check_unfinished(out)
        if grid is not None:
            write_grid(out, grid)
    elif video is not None and midi_file is not None:
        collecting.check_new(out)
        source, played = collecting.read_files(video, midi_file)
        if grid is None:
            grid = _find_grid(collecting.look_into(video))
        collecting.begin(out, grid, source)
        with _progress(console) as show:
            collecting.copy(out, video, played, lambda frames: show(f"read {frames} frames"))
    else:
        assert camera is not None
        collecting.check_new(out)
        device, port = _device(camera), collecting.midi_port(midi)
        plan = collecting.plan_recording(out, device, port)
        if grid is None:
            grid = _find_grid(collecting.look(device))
        collecting.begin(out, grid, collecting.camera_source(device, port))
        console.print(
            f"Recording from {escape(port)}. Play what you like, at least some notes all over the"
            " keyboard: from them the lag of the camera is found. Ctrl-C ends.", soft_wrap=True,
        )  # fmt: skip
        gone = _record(console, out, plan, duration_s)
    _finish(console, out)
    if gone:
        raise RunError(f"{gone}; what was recorded until then is a complete set in {out}.", 1)


def _check(options: dict[str, object]) -> None:
    """Refuse options that do not go together."""
    given = {name for name, value in options.items() if value}
    live = "--camera" in given and given <= {"--camera", "--midi", "--for"}
    if not live and given not in ({"--video", "--midi-file"}, {"--finish"}):
        raise ConfigError(
            "a set is recorded ('--camera 0', with '--midi' and '--for' where needed), or made of"
            " '--video' and '--midi-file', or completed by '--finish'; give one of the three."
        )


def _find_grid(picture: Frame) -> KeyGrid:
    try:
        return collecting.find_grid(picture)
    except ConfigError as error:
        raise ConfigError(
            f"{str(error).rstrip('.')}; or say with '--keyboard' where it is."
        ) from None


def _device(camera: str) -> int | str:
    return int(camera) if camera.isdecimal() else camera


def _record(console: Console, out: Path, plan: Plan, duration_s: float | None) -> str:
    with _progress(console) as show:

        def tell(seconds: float, frames: int, notes: int) -> None:
            show(f"{seconds // 60:.0f}:{seconds % 60:04.1f}, {frames} frames, {notes} notes")

        try:
            return collecting.record(out, plan, duration_s, tell)
        except RunError as error:
            raise RunError(f"{str(error).rstrip('.')}. {_kept(out)}", error.exit_code) from None


def _finish(console: Console, out: Path) -> None:
    with _progress(console) as show:

        def tell(looked: int, frames: int) -> None:
            show(f"looking at the keys: {looked} of {frames} frames")

        try:
            card = collecting.finish(out, tell)
        except RecordingError as error:
            raise RecordingError(f"{error} {_kept(out)}") from None
    lag = card["lag"]
    late = "behind" if lag["seconds"] >= 0 else "ahead of"
    console.print(
        f"{escape(str(out))}: {card['frames']} frames in {card['duration_s']:.1f} s,"
        f" {card['notes']} notes, {card['keys_in_view']} keys in view. The camera is"
        f" {1e3 * abs(lag['seconds']):.0f} ms {late} MIDI, give or take"
        f" {1e3 * lag['uncertainty_s']:.0f} ms.", soft_wrap=True,
    )  # fmt: skip
    for reason, count in card.get("frames_lost", {}).items():
        console.print(f"[yellow]note:[/] {count} frames of the camera were lost ({reason}).")


def _kept(out: Path) -> str:
    return (
        f"What was recorded is kept: `innervate collect {out} --finish` makes a set of it, with"
        " '--keyboard FILE' where the keys had not been found right."
    )


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[str], None]]:
    """Show one line that changes, where there is a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("")

        def show(text: str) -> None:
            progress.update(task, description=escape(text))

        yield show
