"""The files of a training set for the piano."""

from __future__ import annotations

import mido
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from piano_doubles import grid
from vision_doubles import number_of, numbered

from stream.errors import RecordingError
from stream.music.collect.collection import (
    EVENTS_HEAD,
    FRAMES_HEAD,
    load_collection,
    load_grid,
    read_midi,
    read_raw,
    write_card,
    write_grid,
)
from stream.music.notes import SUSTAIN, control, note_off, note_on
from stream.vision.video_writer import VideoWriter

MS = 1_000_000
START = 5_000 * MS
PLAYED = [
    (-30, note_on(60, 80)), (100, note_off(60)), (100, control(SUSTAIN, 127)),
    (150, note_on(64, 90)), (250, note_off(64)), (300, control(SUSTAIN, 0)), (400, note_on(67, 1)),
]  # fmt: skip


def write_set(folder, frames=12, lag_s=0.05, finished=True):
    folder.mkdir(exist_ok=True)
    writer = VideoWriter(folder / "video.mkv", (160, 120), 20.0)
    for number in range(frames):
        writer.write(numbered(number), number * 50 * MS)
    writer.close()
    times = [START + number * 50 * MS + number % 3 for number in range(frames)]
    (folder / "frames.csv").write_text("\n".join([FRAMES_HEAD, *map(str, times)]) + "\n")
    rows = [f"{START + at * MS},{a},{b},{c}" for at, (a, b, c) in PLAYED]
    (folder / "events.csv").write_text("\n".join([EVENTS_HEAD, *rows]) + "\n")
    write_grid(folder, grid())
    lag = {"seconds": lag_s, "uncertainty_s": 0.003}
    card = {"video": "video.mkv", "frames": frames, "lag": lag}
    if finished:
        write_card(folder, read_raw(folder), card)
    return folder


def test_a_set_has_frames_and_notes_on_the_clock_of_the_frames(tmp_path):
    found = load_collection(write_set(tmp_path / "set"))
    frames = list(found.frames())
    assert [number_of(frame) for _, frame in frames] == list(range(12))
    assert [time_ns for time_ns, _ in frames] == [n * 50 * MS + n % 3 for n in range(12)]
    assert found.frames_ns.tolist() == [time_ns for time_ns, _ in frames]
    assert found.pitch.tolist() == [60, 64, 67]
    assert found.velocity.tolist() == [80, 90, 1]
    # What the camera is late, notes are later on its clock; the last one was never released.
    assert (found.onset_ns / MS).tolist() == [20, 200, 450]
    assert found.offset_ns.tolist() == [150 * MS, 300 * MS, 11 * 50 * MS + 2 + 50 * MS]
    assert (found.sustain_ns / MS).tolist() == [150, 350]
    assert found.sustain.tolist() == [127, 0]
    assert (found.grid == grid()).all()
    assert (found.lag_s, found.lag_uncertainty_s) == (0.05, 0.003)


def test_the_midi_file_of_a_set_runs_along_with_its_video(tmp_path):
    folder = write_set(tmp_path / "set")
    times, events = read_midi(folder / "notes.mid")
    assert [tuple(event) for event in events] == [message for _, message in PLAYED]
    assert np.abs(times / MS - [at + 50 for at, _ in PLAYED]).max() < 1
    early = write_set(tmp_path / "early", lag_s=0.0)
    messages = [message for message in mido.MidiFile(early / "notes.mid") if not message.is_meta]
    assert len(messages) == len(PLAYED) - 1, "it cannot hold what was before the first frame"


def test_a_recording_that_was_killed_in_the_middle_of_a_line_can_be_read(tmp_path):
    folder = write_set(tmp_path / "set", finished=False)
    whole = read_raw(folder)
    for name in ("frames.csv", "events.csv"):
        path = folder / name
        path.write_text(path.read_text()[:-2])
    cut = read_raw(folder)
    assert cut.frames_ns.tolist() == whole.frames_ns[:-1].tolist()
    assert cut.events_ns.tolist() == whole.events_ns[:-1].tolist()
    with pytest.raises(RecordingError, match=r"no finished set: .* --finish"):
        load_collection(folder)


def test_what_is_no_set_or_damaged_is_refused_in_one_sentence(tmp_path):
    def refuse(match, function=load_collection, what=None):
        with pytest.raises(RecordingError, match=match):
            function(what or folder)

    with pytest.raises(RecordingError, match="is no folder"):
        load_collection(tmp_path / "none")
    folder = write_set(tmp_path / "set")
    card = yaml.safe_load((folder / "card.yaml").read_text())
    for change, match in (
        ({"format": 9}, "is of format 9, this version reads 1"),
        ({"lag": {}}, r"card.yaml cannot be read: 'seconds'"),
        ({"frames": -1}, "make no set"),
        ({"lag": {"seconds": float("nan"), "uncertainty_s": 0.0}}, "make no set"),
        ({"frames": 99}, "fewer than the 99 frames"),
        ({"video": "other.mkv"}, "other.mkv is not there"),
    ):
        (folder / "card.yaml").write_text(yaml.safe_dump(card | change))
        refuse(match)
    (folder / "card.yaml").write_text("a: [")
    refuse("card.yaml cannot be read")
    (folder / "card.yaml").write_text(yaml.safe_dump(card))
    for name, content, match in (
        ("frames.csv", "t\n1\n", "does not begin with 't_ns'"),
        ("frames.csv", "t_ns\nx\n", "not 't_ns' in whole numbers"),
        ("frames.csv", "t_ns\n2\n1\n", "the times do not rise"),
        ("events.csv", f"{EVENTS_HEAD}\n1,2,3,4\n", "something else than channel messages"),
        ("events.csv", f"{EVENTS_HEAD}\n1,2\n", "in whole numbers"),
        ("keyboard.npz", "x", "holds no grid of keys"),
    ):
        before = (folder / name).read_bytes()
        (folder / name).write_text(content)
        refuse(match)
        (folder / name).write_bytes(before)
    np.savez(folder / "odd.npz", grid=np.zeros((3, 4)))
    refuse(r"of shape \[3, 4\]", load_grid, folder / "odd.npz")
    (folder / "x.mid").write_bytes(b"MThd nonsense")
    refuse("cannot be read as MIDI", read_midi, folder / "x.mid")
    mido.MidiFile().save(folder / "empty.mid")
    refuse("has no notes", read_midi, folder / "empty.mid")


def test_a_video_with_fewer_frames_than_times_is_told(tmp_path):
    folder = write_set(tmp_path / "set")
    write_set(tmp_path / "short", frames=6)
    (tmp_path / "short" / "video.mkv").replace(folder / "video.mkv")
    with pytest.raises(RecordingError, match=r"holds 6 of 12 frames"):
        list(load_collection(folder).frames())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.sampled_from(["frames.csv", "events.csv", "card.yaml"]))
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path, content, name):
    folder = tmp_path / "set"
    if not folder.exists():
        write_set(folder)
    before = (folder / name).read_bytes()
    (folder / name).write_bytes(content)
    try:
        load_collection(folder)
    except RecordingError:
        pass
    finally:
        (folder / name).write_bytes(before)
