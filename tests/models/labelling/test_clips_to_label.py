"""Which clips a session takes, and in which order it asks for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.labelling.choosing import BATCH, choose
from models.labelling.clips import Clips, load_session_clips
from stream.errors import ConfigError, RecordingError
from stream.vision.layouts import HAND_21, KINECT_20, MEDIAPIPE_33, Layout
from stream.vision.skeleton_files import SkeletonClip, save_clip

Write = Callable[[Path, int], Path]


def save(folder: Path, name: str, times_s: np.ndarray, layout: Layout = KINECT_20) -> np.ndarray:
    joints = np.zeros((len(times_s), len(layout.joints), 3), np.float32)
    joints += times_s[:, None, None].astype(np.float32)
    save_clip(SkeletonClip(name, joints, layout, times_s), folder / f"{name}.npz")
    return joints


def test_a_folder_and_a_file_make_one_session(tmp_path: Path, write_clips: Write) -> None:
    folder = write_clips(tmp_path / "clips", 2)
    save(tmp_path, "another", np.arange(10) / 10)
    clips = load_session_clips([folder, tmp_path / "another.npz"], None)
    assert clips.names == ("another", "bend-00", "bend-01", "kick-00", "kick-01", "wave-00",
                           "wave-01")  # fmt: skip
    assert len(clips.sequences.joints(0)) == 10
    assert clips.sequences.fps[0] == pytest.approx(10)


def test_what_cannot_be_labelled_is_left_out_and_named(tmp_path: Path, write_clips: Write) -> None:
    write_clips(tmp_path, 1)
    save(tmp_path, "short", np.arange(2) / 30)
    save(tmp_path, "long", np.arange(100.0))
    joints = save(tmp_path, "away", np.arange(9) / 30)
    joints[3] = np.nan
    save_clip(SkeletonClip("away", joints, KINECT_20, np.arange(9) / 30), tmp_path / "away.npz")
    clips = load_session_clips([tmp_path], None)
    assert clips.names == ("bend-00", "kick-00", "wave-00")
    assert set(clips.left_out) == {"short", "long", "away"}


def test_joints_of_mediapipe_become_those_of_kinect_and_hands_are_refused(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path, name, np.arange(9) / 30, MEDIAPIPE_33)
    assert load_session_clips([tmp_path], None).sequences.frames.shape == (27, 20, 3)
    save(tmp_path, "d", np.arange(9) / 30, HAND_21)
    with pytest.raises(RecordingError, match="whole body"):
        load_session_clips([tmp_path], None)


def test_uneven_frames_are_brought_to_even_steps(tmp_path: Path, write_clips: Write) -> None:
    write_clips(tmp_path, 1)
    times_s = np.array([0.0, 0.1, 0.2, 0.5, 0.6, 0.7])
    save(tmp_path, "uneven", times_s)
    clips = load_session_clips([tmp_path], None)
    number = clips.index("uneven")
    assert clips.sequences.fps[number] == pytest.approx(10)
    np.testing.assert_allclose(
        clips.sequences.joints(number)[:, 0, 0], np.arange(7) / 10, atol=1e-6
    )


def test_clips_of_one_name_are_refused(tmp_path: Path, write_clips: Write) -> None:
    one, other = write_clips(tmp_path / "a", 1), write_clips(tmp_path / "b", 1)
    with pytest.raises(ConfigError, match="both called 'bend-00'"):
        load_session_clips([one, other], None)


def test_clips_without_times_need_a_rate(shared_data: Path) -> None:
    folder = shared_data / "skeletons" / "nw-ucla" / "all_sqe"
    files = [folder / f"a01_s01_e0{n}_v01.json" for n in range(3)]
    with pytest.raises(ConfigError, match="--rate"):
        load_session_clips(files, None)
    assert len(load_session_clips(files, 15.0).names) == 3


def test_a_fifth_of_the_clips_only_measures_and_always_the_same(clips: Clips, folder: Path) -> None:
    assert clips.held_out.sum() == round(len(clips.names) / 5)
    np.testing.assert_array_equal(load_session_clips([folder], None).held_out, clips.held_out)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**24 - 1), st.booleans())
def test_no_clip_is_asked_for_twice_and_every_one_in_the_end(
    clips: Clips, mask: int, judged: bool
) -> None:
    random = np.random.default_rng(mask)
    latents = random.standard_normal((len(clips.learnable), 4))
    latents /= np.linalg.norm(latents, axis=1, keepdims=True)
    p = random.dirichlet(np.ones(3), len(latents)) if judged else None
    seen = {name for i, name in enumerate(clips.names) if mask >> i & 1}
    while asked := choose(clips, seen, latents, p):
        assert len(asked) == len(set(asked)) <= BATCH
        assert not seen & set(asked)
        seen.update(asked)
    assert seen == set(clips.names)


def test_every_fifth_clip_that_is_asked_for_measures(clips: Clips) -> None:
    latents = np.eye(len(clips.learnable))
    asked = choose(clips, [], latents, None)
    assert [bool(clips.held_out[clips.index(name)]) for name in asked] == 2 * (4 * [False] + [True])


def test_clips_that_are_all_alike_can_be_chosen_from(clips: Clips) -> None:
    latents = np.ones((len(clips.learnable), 4)) / 2
    assert choose(clips, [], latents, None)
