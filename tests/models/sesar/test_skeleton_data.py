"""What training reads, and how it is brought to the model's clock."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.sesar.augment import Augmentation, Sampler, spoil
from models.sesar.dataset import (
    ACTIONS,
    BACKGROUND,
    IGNORED,
    by_subject,
    cross_view,
    load_training_data,
    load_ucla,
    load_utd,
    with_own_labels,
)
from models.sesar.live import ticks
from models.sesar.streams import StreamMaker, StreamSettings
from stream.errors import RecordingError
from stream.vision.layouts import KINECT_20


def test_views_subjects_and_labels_come_from_the_files(actions, others):
    assert len(actions) == 90
    assert set(actions.label) == set(range(len(ACTIONS)))
    learned, tested = cross_view(actions)
    assert set(learned.view) == {1, 2}
    assert set(tested.view) == {3}
    assert set(others.label) == {BACKGROUND, IGNORED, ACTIONS.index("throw"), 5}


def test_utd_has_its_own_labels_too(others):
    assert set(with_own_labels(others).label) == {0, 4, 21, 23}


def test_joints_of_utd_are_put_into_the_order_of_the_kinect(others):
    frame = others.joints(0)[0]
    head, foot = KINECT_20.index("head"), KINECT_20.index("left_foot")
    assert frame[head, 1] > frame[0, 1] > frame[foot, 1]


def test_training_never_sees_view_3_nor_even_subjects(folders):
    learned, background, about = load_training_data(*folders)
    assert set(learned.view) == {1, 2}
    assert set(background.subject) == {1, 3}
    assert about["sequences"] == 60


def test_subjects_that_are_held_out_are_in_one_part_only(actions):
    some, rest = by_subject(actions, [2])
    assert set(some.subject) == {1, 3}
    assert set(rest.subject) == {2}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.json", "{}", "not named like"),
        ("a01_s01_e00_v01.json", "{", "is no sequence of NW-UCLA"),
        (
            "a01_s01_e00_v01.json",
            json.dumps({"skeletons": [[[0, 0]]], "label": 1}),
            "is no sequence",
        ),
        (
            "a01_s01_e00_v01.json",
            json.dumps({"skeletons": [[[0, 0, 0]] * 20], "label": 11}),
            "the label 11",
        ),
        (
            "a01_s01_e00_v01.json",
            json.dumps({"skeletons": [[[0, 0, 0]]] * 5, "label": 1}),
            "kinect-20 needs",
        ),
    ],
)
def test_a_file_of_something_else_is_one_sentence(tmp_path: Path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(RecordingError, match=says):
        load_ucla(tmp_path)


def test_a_folder_without_recordings_is_one_sentence(tmp_path: Path):
    with pytest.raises(RecordingError, match="holds no files of NW-UCLA"):
        load_ucla(tmp_path)
    (tmp_path / "a1_s1_t1_skeleton.mat").write_bytes(b"no matlab")
    with pytest.raises(RecordingError, match="cannot be read"):
        load_utd(tmp_path)


def test_whole_clips_are_what_the_live_clock_gives(actions, others):
    for sequences in (actions, others):
        clips = Sampler(sequences).whole(torch.arange(8))
        for number in range(8):
            joints = sequences.joints(number)
            live = ticks(joints, float(sequences.fps[number]), np.ones(len(joints), bool))
            own = clips.joints[number, : clips.length[number]].numpy()
            np.testing.assert_allclose(own, live, atol=1e-6)


def test_changed_clips_keep_to_their_sequence(actions):
    torch.manual_seed(0)
    a = Augmentation(ticks=12)
    clips = Sampler(actions).augmented(torch.arange(60), a)
    assert clips.joints.shape[1] <= 12
    assert clips.joints.isfinite().all()
    assert (clips.length >= 1).all()


def test_mirroring_twice_and_turning_change_no_length(actions):
    torch.manual_seed(0)
    joints = torch.from_numpy(actions.joints(0))[None]
    a = Augmentation(
        scale=0.0, joint_m=0.0, noise_m=0.0, lost=0.0, mirror=1.0, tilt_rad=0.5, still_root=0.0
    )
    spoilt = spoil(joints, a)

    def length(joints, a, b):
        first, second = joints[..., KINECT_20.index(a), :], joints[..., KINECT_20.index(b), :]
        return (first - second).norm(dim=-1)

    own = length(joints, "left_hand", "left_knee")
    torch.testing.assert_close(length(spoilt, "right_hand", "right_knee"), own)


def test_streams_go_on_where_the_clip_before_ends_and_say_what_is_shown(actions, others):
    torch.manual_seed(0)
    plain = Augmentation(joint_m=0.0, noise_m=0.0, lost=0.0)
    made = StreamMaker(actions, others, StreamSettings(ticks=120)).make(16, plain)
    assert made.joints.shape == (16, 120, 20, 3)
    assert made.joints.diff(dim=1).norm(dim=-1).max() < 0.9
    assert set(made.label.unique().tolist()) <= set(range(BACKGROUND + 1))
    assert (made.label[made.clip < 0] == BACKGROUND).all()
    assert 0.2 < (made.label == BACKGROUND).float().mean() < 0.9


def test_parts_of_a_batch_hold_every_clip_once_and_whole(actions):
    torch.manual_seed(0)
    clips = Sampler(actions).augmented(torch.arange(20), Augmentation())
    parts = list(clips.parts(3))
    assert sorted(torch.cat([rows for rows, _ in parts]).tolist()) == list(range(20))
    for rows, part in parts:
        assert part.joints.shape[1] == part.length.max()
        torch.testing.assert_close(part.length, clips.length[rows])
        torch.testing.assert_close(part.joints, clips.joints[rows, : part.joints.shape[1]])
