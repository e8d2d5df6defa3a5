"""`innervate collect` with a camera in a network and a MIDI keyboard on a JACK server."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from innervate_command import starting
from midi_device import Keyboard
from piano_doubles import HEIGHT, WIDTH, Camera, grid, midi, played
from vision_doubles import MjpegCamera

from stream.commands.collect import collect as collect_command
from stream.errors import ConfigError
from stream.music.collect.collection import load_collection, read_raw, write_grid

PERIOD_S = 1 / 30
LATE_S = 0.15
"""By how much the camera shows everything later than it happens."""

NOTES = 40
"""So many are recorded: enough to tell the lag of the camera, when not all of them are seen."""


Start = Callable[..., subprocess.Popen[str]]


@contextmanager
def starting_collect() -> Iterator[Start]:
    """Give what starts `innervate collect`."""
    with starting(COLUMNS="300") as start:
        yield partial(start, "collect")


@pytest.fixture(autouse=True, scope="module")
def _state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def collect() -> Iterator[Start]:
    """Start `innervate collect`."""
    with starting_collect() as start:
        yield start


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that says where the keys are."""
    folder = tmp_path_factory.mktemp("where")
    write_grid(folder, grid())
    return folder / "keyboard.npz"


class Performance:
    """Somebody plays for a while, over and over: the camera sees it, MIDI tells of it."""

    def __init__(self, name: str) -> None:
        self.keys = played(80, 0.1, travel_s=0.05)
        self.length_s = 9.0
        self.keyboard = Keyboard(name)
        self.begin_ns = time.monotonic_ns()
        self.sent = 0
        self.over = threading.Event()
        self.cut = threading.Event()
        self.camera = MjpegCamera(self._film)
        self._pictures = [
            Camera(self.keys, 1).frame(n * PERIOD_S) for n in range(round(self.length_s / PERIOD_S))
        ]
        self.begin_ns = time.monotonic_ns()
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def now_s(self) -> float:
        return (time.monotonic_ns() - self.begin_ns) / 1e9

    def _film(self, _: int) -> Iterator[Any]:
        first = self.now_s()
        for number in count():
            if self.cut.is_set():
                return
            at = first + number * PERIOD_S
            # What is shown is what was there a while before, not what a late thread would see.
            yield lambda at=at: self.camera.pause(max(0.0, at - self.now_s()))
            seen = int(((at - LATE_S) % self.length_s) / PERIOD_S)
            yield self._pictures[min(seen, len(self._pictures) - 1)]

    def _play(self) -> None:
        for lap in count():
            for at, message in midi(self.keys):
                if self.over.wait(max(0.0, lap * self.length_s + at - self.now_s())):
                    return
                self.keyboard.send(message)
                self.sent += 1

    def end(self) -> None:
        self.over.set()
        self._thread.join()
        self.camera.close()
        self.keyboard.close()


@pytest.fixture(scope="module")
def perform(collect_jack: object) -> Iterator[Performance]:
    performance = Performance("Digital Piano")
    yield performance
    performance.end()


@dataclass(frozen=True)
class Recorded:
    """Two recordings of the same: one that Ctrl-C ended, with what was printed, one killed."""

    ended: Path
    output: str
    returned: int
    killed: Path


@pytest.fixture(scope="module")
def recorded(
    perform: Performance,
    where: Path,
    tmp_path_factory: pytest.TempPathFactory,
    wait_for: Callable[..., None],
) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("recorded")
    ended, killed = folder / "ended", folder / "killed"
    with starting_collect() as start:
        first = start(ended, "--camera", perform.camera.address, "--midi", "piano")
        second = start(killed, "--camera", perform.camera.address, "--keyboard", where)
        wait_for(lambda: notes_so_far(ended) > NOTES, first)
        wait_for(lambda: notes_so_far(killed) > NOTES, second)
        first.send_signal(signal.SIGINT)
        second.kill()
        second.wait()
        output = first.communicate(timeout=100)[0]
        yield Recorded(ended, output, first.returncode, killed)


@pytest.fixture
def mjpeg() -> Iterator[Callable[..., MjpegCamera]]:
    """Make a camera of a script."""
    cameras: list[MjpegCamera] = []

    def make(script: Callable[[int], Any]) -> MjpegCamera:
        cameras.append(MjpegCamera(script))
        return cameras[-1]

    yield make
    for camera in cameras:
        camera.close()


def notes_so_far(folder: Path) -> int:
    path = folder / "events.csv"
    return len(re.findall(r",144,", path.read_text())) if path.exists() else 0


def test_a_recording_that_ctrl_c_ends_is_a_whole_set(recorded):
    assert recorded.returned == 0, recorded.output
    assert sorted(path.name for path in recorded.ended.iterdir()) == [
        "card.yaml", "events.csv", "frames.csv", "keyboard.npz", "notes.mid", "video.mkv",
    ]  # fmt: skip
    found = load_collection(recorded.ended)
    # Sending and decoding a picture takes a while, too, on a busy machine longer than a frame.
    assert LATE_S - 0.05 < found.lag_s < LATE_S + 0.3
    assert "ms behind MIDI, give or take" in recorded.output
    assert len(found.pitch) >= NOTES
    assert found.card["lag"]["notes"] >= found.card["lag"]["seen"] >= 15
    frames = list(found.frames())
    assert len(frames) == found.card["frames"] > NOTES * 0.1 / PERIOD_S / 2
    assert frames[0][1].shape == (HEIGHT, WIDTH, 3)
    steps = np.diff(found.frames_ns) / 1e9
    assert abs(np.median(steps) - PERIOD_S) < PERIOD_S / 2
    assert found.card["midi"] == "Digital Piano:keys"
    assert np.abs(found.grid - grid()).max() < 4, "the keys were found"


def test_no_set_is_put_over_another(collect, recorded, perform):
    again = collect(recorded.ended, "--camera", perform.camera.address)
    finished = collect(recorded.ended, "--finish")
    output = again.communicate(timeout=60)[0]
    assert again.returncode == 2
    assert "exists, and no set is put over another" in output
    assert "is a finished set" in finished.communicate(timeout=60)[0]


def test_a_recording_that_was_killed_can_be_completed(collect, recorded, wait_for):
    events = recorded.killed / "events.csv"
    size = events.stat().st_size

    def is_still() -> bool:
        """The processes that are left notice that and end."""
        nonlocal size
        before, size = size, events.stat().st_size
        return before == size

    wait_for(is_still)
    before = len(read_raw(recorded.killed).notes())
    done = collect(recorded.killed, "--finish")
    output = done.communicate(timeout=100)[0]
    assert done.returncode == 0, output
    assert len(load_collection(recorded.killed).pitch) >= before > NOTES - 5


@pytest.mark.slow  # Each records for as long as it takes to tell the lag of the camera.
@pytest.mark.usefixtures("collect_jack")
@pytest.mark.parametrize("gone", ["camera", "keyboard"])
def test_what_was_recorded_before_camera_or_keyboard_went_away_is_a_set(
    collect, where, tmp_path, wait_for, gone
):
    out, performance = tmp_path / "set", Performance("Stage Piano")
    try:
        process = collect(
            out, "--camera", performance.camera.address, "--midi", "stage", "--keyboard", where
        )
        wait_for(lambda: notes_so_far(out) > NOTES, process)
        if gone == "camera":
            performance.cut.set()
        else:
            performance.over.set()
            performance.keyboard.close()
        output = process.communicate(timeout=100)[0]
    finally:
        performance.end()
    assert process.returncode == 1, output
    what = "the camera" if gone == "camera" else "the MIDI input"
    assert re.search(rf"error: {what} went away after \d+ s; what was recorded until then", output)
    assert len(load_collection(out).pitch) > NOTES


def test_a_video_and_a_midi_file_make_a_set(collect, where, tmp_path):
    import cv2

    keys = played(50, 0.12, travel_s=0.05)
    camera = Camera(keys)
    video = tmp_path / "clip.mp4"
    out = cv2.VideoWriter(
        str(video), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 30, (WIDTH, HEIGHT)
    )
    for number in range(210):
        out.write(camera.frame(number / 30))
    out.release()
    late_s = 2.5
    track, before = mido.MidiTrack(), 0
    for at, (status, pitch, velocity) in midi(keys):
        tick = round((at + late_s) * 960)
        track.append(mido.Message.from_bytes([status, pitch, velocity], time=tick - before))
        before = tick
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks.append(track)
    file.save(tmp_path / "played.mid")
    made = tmp_path / "set"
    (tmp_path / "bad.mid").write_bytes(b"no music")
    # Of another piece the lag cannot be told: what was copied stays.
    track[:] = [m if m.is_meta else m.copy(note=24 + m.note * 7 % 80) for m in track]
    file.save(tmp_path / "other.mid")
    process, bad, other = (
        collect(out, "--video", video, "--midi-file", tmp_path / midi_file, "--keyboard", where)
        for out, midi_file in (
            (made, "played.mid"), (tmp_path / "none", "bad.mid"), (tmp_path / "other", "other.mid")
        )
    )  # fmt: skip
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    found = load_collection(made)
    assert found.video == made / "video.mp4"
    assert found.video.read_bytes() == video.read_bytes()
    assert abs(found.lag_s + late_s) < PERIOD_S
    assert np.abs(np.sort(found.onset_ns) / 1e9 - [key.down_s for key in keys]).max() < PERIOD_S
    assert found.card["video_file"]["name"] == "clip.mp4"
    assert "cannot be read as MIDI" in bad.communicate(timeout=100)[0]
    assert not (tmp_path / "none").exists()
    output = other.communicate(timeout=100)[0]
    assert other.returncode == 1, output
    assert "the lag of the camera cannot be told" in output
    assert "What was recorded is kept" in output
    assert not (tmp_path / "other" / "card.yaml").exists()


def test_a_picture_without_a_keyboard_is_refused_before_anything_is_recorded(
    collect, perform, mjpeg, tmp_path
):
    camera = mjpeg(lambda _: (np.full((240, 320, 3), 90, np.uint8) for _ in count()))
    process = collect(tmp_path / "set", "--camera", camera.address)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert "the keyboard is not seen for certain" in output
    assert "without hands at first; or say with '--keyboard' where it is." in output
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    "options",
    [
        {}, {"midi": "x"}, {"camera": "0", "video": Path("x.mp4")}, {"video": Path("x.mp4")},
        {"finish": True, "duration": "1 s"},
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match="give one of the three"):
        collect_command(tmp_path / "set", **options)


def test_what_was_never_begun_cannot_be_finished(collect, tmp_path):
    process = collect(tmp_path, "--finish")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    assert "is no set that `innervate collect` began" in output
