"""Makes training sets for the piano: records them or copies them, then finishes them."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from stream.errors import ConfigError, RecordingError, RunError
from stream.files import check_there, file_sha256
from stream.music.collect.alignment import (
    FILES_S,
    LIVE_S,
    Lag,
    estimate_lag,
    seen_onsets,
    strips_of,
)
from stream.music.collect.collection import (
    CARD,
    EVENTS,
    EVENTS_HEAD,
    FRAMES,
    FRAMES_HEAD,
    GRID,
    load_grid,
    load_mido,
    read_midi,
    read_raw,
    write_card,
    write_grid,
)
from stream.music.collect.take import Take
from stream.music.finder.finding import SURE, find_keyboard, to_work
from stream.music.keyboard import KeyGrid, keys_in_view
from stream.music.midi.midi_ports import find_input
from stream.plan import Delivery, Link, NodePlan, Plan
from stream.registry import make_node
from stream.runtime.report import Report
from stream.runtime.supervisor import run_plan
from stream.vision.device import Camera, Wanted
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2
from stream.vision.video_file import VideoFile

SOURCE = "source.yaml"
"""Where a set comes from; part of the card once that is written."""

_WHAT = "innervate collect"
_TAKE = f"{Take.__module__}:{Take.__name__}"
_LOOKED_AT = 15
_EVERY = 10

Played = tuple[NDArray[np.int64], NDArray[np.uint8]]
"""Times in ns and channel messages (n, 3)."""

Show = Callable[[float, int, int], None]
"""Told during a recording: seconds, frames and notes so far."""


def check_extras() -> None:
    """Look whether all is installed that a set needs to the end.

    Raises
    ------
    MissingExtraError
        Something is not.
    """
    load_cv2(_WHAT)
    load_mido()


def midi_port(wanted: str | None) -> str:
    """Return the full name of a MIDI input, as `find_input` finds it."""
    return find_input(wanted).name


def check_new(folder: Path) -> None:
    """Refuse a place where there is something.

    Raises
    ------
    ConfigError
        There is.
    """
    if folder.exists():
        raise ConfigError(
            f"{folder} exists, and no set is put over another; choose another name"
            f" (`innervate collect {folder} --finish` completes a set that was cut short)."
        )


def check_unfinished(folder: Path) -> None:
    """Refuse what is no set that was cut short.

    Raises
    ------
    ConfigError
        It is finished, or nothing was ever recorded there.
    """
    if (folder / CARD).exists():
        raise ConfigError(f"{folder} is a finished set; there is nothing to complete.")
    if not (folder / SOURCE).exists():
        raise ConfigError(f"{folder} is no set that `innervate collect` began.")


def begin(folder: Path, grid: KeyGrid, source: dict[str, Any]) -> None:
    """Make the folder of a set, with where the keys are and where the set comes from.

    Raises
    ------
    ConfigError
        No folder can be made there.
    """
    try:
        folder.mkdir()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}.") from None
    write_grid(folder, grid)
    _write_source(folder, {"created": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", **source})


def plan_recording(folder: Path, device: int | str, port: str) -> Plan:
    """Return the pipeline that records a camera and a MIDI input into a folder.

    Raises
    ------
    ConfigError
        One of them is not there.
    """
    nodes: dict[str, NodePlan] = {}

    def add(name: str, use: str, settings: dict[str, Any], inputs: tuple[str, ...] = ()) -> None:
        node = make_node(use, settings)
        nodes[name] = NodePlan(
            name, use, node.settings.model_dump(mode="json"), name,
            tuple(Link(other, other, "", name, Delivery()) for other in inputs),
            node.outputs({other: nodes[other].outputs[""] for other in inputs}),
        )  # fmt: skip

    add("camera", "camera", {"device": device})
    add("keys", "midi.in", {"port": port})
    add("set", _TAKE, {"folder": str(folder.resolve())}, ("camera", "keys"))
    return Plan("collect", "", nodes)


def record(folder: Path, plan: Plan, duration_s: float | None, show: Show) -> str:
    """Record until the time is over, Ctrl-C, or camera or keyboard go away.

    Returns
    -------
    reason
        Why it ended early; empty if it did not.

    Raises
    ------
    RunError
        The recording failed.
    """
    gone = ""

    def watch(status: dict[str, Any]) -> bool:
        nonlocal gone
        nodes = {name: node["notes"] for name, node in status["nodes"].items()}
        show(status["duration_s"], nodes["set"].get("frames", 0), nodes["set"].get("notes", 0))
        for name, what in (("camera", "the camera"), ("keys", "the MIDI input")):
            if nodes[name].get("outages") and not gone:
                gone = f"{what} went away after {status['duration_s']:.0f} s"
        return bool(gone)

    result = run_plan(plan, duration_s=duration_s, on_status=watch)
    _note_losses(folder, result)
    if result.exit:
        raise RunError(result.message, result.exit)
    return gone


def copy(folder: Path, video: Path, played: Played, show: Callable[[int], None]) -> None:
    """Make a set of a video and of what a MIDI file of the same performance says.

    `show` is told how many frames have been read.

    Raises
    ------
    RecordingError
        The video ends long before it should.
    """
    times, events = played
    shutil.copyfile(video, folder / f"video{video.suffix.lower()}")
    with (folder / FRAMES).open("w") as table:
        table.write(f"{FRAMES_HEAD}\n")
        for number, (time_ns, _) in enumerate(VideoFile(video).frames()):
            table.write(f"{time_ns}\n")
            if number % _EVERY == 0:
                show(number)
    rows = [
        ",".join(map(str, (t, *e))) for t, e in zip(times.tolist(), events.tolist(), strict=True)
    ]
    (folder / EVENTS).write_text("\n".join([EVENTS_HEAD, *rows]) + "\n")


def finish(folder: Path, show: Callable[[int, int], None]) -> dict[str, Any]:
    """Find the lag of the camera, and write what makes a recording a set; return its card.

    `show` is told how many frames of how many have been looked at.

    Raises
    ------
    RecordingError
        There is no recording there, or its lag cannot be told.
    ModelError
        The network that looks for what is played cannot be loaded.
    MissingExtraError
        OpenCV or mido are not installed.
    """
    source = _read_source(folder)
    raw, grid = read_raw(folder), load_grid(folder / GRID)
    videos = sorted(folder.glob("video.*"))
    if len(videos) != 1:
        raise RecordingError(f"{folder} has {len(videos)} files video.*, one is needed.")
    there, read = len(raw.frames_ns), 0

    def frames() -> Iterator[tuple[int, Frame]]:
        nonlocal read
        # A recording that was killed may have times of frames that the video does not have.
        for time_ns, (_, frame) in zip(
            raw.frames_ns.tolist(), VideoFile(videos[0]).frames(), strict=False
        ):
            if read % _EVERY == 0:
                show(read, there)
            read += 1
            yield time_ns, frame

    onsets = seen_onsets(strips_of(frames(), grid))
    raw = replace(raw, frames_ns=raw.frames_ns[:read])
    notes = raw.notes()
    lag = estimate_lag(raw.frames_ns, onsets, notes, LIVE_S if "camera" in source else FILES_S)
    span_s = float(raw.frames_ns[-1] - raw.frames_ns[0]) / 1e9
    card = {
        **source,
        "video": videos[0].name,
        "frames": read,
        "frames_without_picture": there - read,
        "duration_s": round(span_s, 3),
        "rate_hz": round((read - 1) / span_s, 3),
        "notes": len(notes),
        "keys_in_view": int(keys_in_view(grid).sum()),
        "lag": _plain(lag),
        "versions": {name: version(name) for name in ("innervate", "numpy")}
        | {"opencv": str(load_cv2(_WHAT).__version__)},
    }
    write_card(folder, raw, card)
    (folder / SOURCE).unlink()
    return card


def find_grid(picture: Frame) -> KeyGrid:
    """Return where the keys are in a picture.

    Raises
    ------
    ConfigError
        There is none, or it is not certain.
    """
    found = find_keyboard(to_work(picture))
    if found is None or found.confidence < SURE:
        reason = found.reason if found is not None and found.reason else "nothing looks like one"
        raise ConfigError(
            f"the keyboard is not seen for certain ({reason}): have all of it in view, from above,"
            " without hands at first."
        )
    return found.grid(*picture.shape[:2])


def look(device: int | str) -> Frame:
    """Return what a camera shows, without what moves.

    Raises
    ------
    CameraError
        It is not there, or gives no frames.
    """
    camera = Camera(Wanted(device, None, None))
    try:
        grabbed = [camera.first(), *(camera.read() for _ in range(_LOOKED_AT))]
    finally:
        camera.close()
    return _median([shot.frame for shot in grabbed if shot is not None and shot.frame is not None])


def look_into(video: Path) -> Frame:
    """Return what the beginning of a video shows, without what moves.

    Raises
    ------
    RecordingError
        It cannot be read.
    """
    frames = VideoFile(video).frames()
    return _median([frame for _, frame in itertools.islice(frames, 0, _LOOKED_AT * _EVERY, _EVERY)])


def camera_source(device: int | str, port: str) -> dict[str, Any]:
    """Return what the card of a recording says of where it comes from."""
    return {"camera": Wanted(device, None, None).name, "midi": port}


def read_files(video: Path, midi_file: Path) -> tuple[dict[str, Any], Played]:
    """Return what the card of a set of two files says of them, and what was played.

    Raises
    ------
    RecordingError
        One of them cannot be read.
    """
    played = read_midi(midi_file)
    VideoFile(video)
    source = {
        "video_file": {"name": video.name, "sha256": file_sha256(video)},
        "midi_file": {"name": midi_file.name, "sha256": file_sha256(midi_file)},
    }
    return source, played


def _note_losses(folder: Path, result: Report) -> None:
    """Keep how many frames the camera gave that are not in the set."""
    camera = result.nodes.get("camera", {})
    _write_source(folder, _read_source(folder) | {"frames_lost": camera.get("dropped", {})})


def _read_source(folder: Path) -> dict[str, Any]:
    check_there(folder / SOURCE)
    try:
        source = yaml.safe_load((folder / SOURCE).read_text())
    except (yaml.YAMLError, ValueError):
        source = None
    if not isinstance(source, dict):
        raise RecordingError(f"{folder / SOURCE} cannot be read.")
    return source


def _write_source(folder: Path, source: dict[str, Any]) -> None:
    (folder / SOURCE).write_text(yaml.safe_dump(source, sort_keys=False))


def _median(frames: list[Frame]) -> Frame:
    middle: Frame = np.median(np.stack(frames), axis=0).astype(np.uint8)
    return middle


def _plain(lag: Lag) -> dict[str, Any]:
    return {
        "seconds": round(lag.seconds, 4),
        "uncertainty_s": round(lag.uncertainty_s, 4),
        "seen": lag.seen,
        "notes": lag.notes,
    }
