"""Sets of one's own: from a film of a keyboard and what was played to clips to learn from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from innervate_command import innervate

from models.audeo.collected import collected_clips
from models.audeo.notes import Note, write_midi
from models.audeo.rendering.clip import film
from models.audeo.rendering.looks import draw_look
from models.audeo.rendering.performance import Press, made_up, perform, reachable
from stream.errors import RecordingError
from stream.music.collect.collection import write_grid
from stream.units import to_ns
from stream.vision.video_writer import VideoWriter

LENGTH_S = 8.0
LATE_S = 0.08


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[Path, list[Press]]:
    """A set of a rendered film, whose camera was 80 ms late."""
    folder = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(1)
    look = replace(draw_look(rng, "digital"), rate_hz=30.0, gain=1.0, drift=0.0)
    presses = perform(rng, reachable(made_up(rng, 48, 79, 9)), 0.9, LENGTH_S - 0.5)
    frames, grid = film(rng, look, presses, size=(640, 360), length_s=LENGTH_S)
    video = VideoWriter(folder / "film.mp4", (640, 360), 30.0)
    for number, frame in enumerate(frames):
        video.write(frame, to_ns(number / 30))
    video.close()
    notes = [Note(p.pitch, p.bottom_s - LATE_S, p.release_s - LATE_S, p.velocity) for p in presses]
    write_midi(notes, folder / "played.mid")
    write_grid(folder, grid)
    done = innervate(
        "collect", folder / "set", "--video", folder / "film.mp4", "--midi-file",
        folder / "played.mid", "--keyboard", folder / "keyboard.npz",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "set", presses


def test_clips_of_a_set_show_each_key_when_the_camera_saw_it(recorded) -> None:
    folder, presses = recorded
    clips = collected_clips(folder)
    lengths = [len(clip.strips) for clip in clips]
    assert sum(lengths) == round(LENGTH_S * 30)
    assert clips[0].strips.shape[1:] == (56, 624, 3)
    begins = np.cumsum([0.0, *(length / 30 for length in lengths)])
    onsets = sorted(
        (int(row[0]), row[1] + begin)
        for clip, begin in zip(clips, begins, strict=False)
        for row in clip.presses
        if 0 <= row[1] < 3
    )
    wanted = sorted((p.pitch, p.bottom_s) for p in presses)
    assert [pitch for pitch, _ in onsets] == [pitch for pitch, _ in wanted]
    np.testing.assert_allclose([t for _, t in onsets], [t for _, t in wanted], atol=1 / 30)


def test_what_is_no_set_is_refused(tmp_path) -> None:
    with pytest.raises(RecordingError):
        collected_clips(tmp_path)
