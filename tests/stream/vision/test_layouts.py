import numpy as np
import pytest

from stream.errors import ConfigError
from stream.vision.layouts import (
    KINECT_20,
    LAYOUTS,
    MEDIAPIPE_33,
    UTD_MHAD_20,
    kinect_from_mediapipe,
    layout,
    reorder,
)


@pytest.mark.parametrize("name", LAYOUTS)
def test_joints_have_names_of_their_own_and_all_bones_hang_together(name):
    found = layout(name)
    assert len(set(found.joints)) == len(found.joints)
    groups = {joint: joint for joint in found.joints}

    def root(joint):
        return joint if groups[joint] == joint else root(groups[joint])

    for a, b in found.bones:
        groups[root(a)] = root(b)
    loose = {root(joint) for a, b in found.bones for joint in (a, b)}
    # MediaPipe's mouth hangs on nothing, and its face not on the body.
    assert len(loose) == (3 if name == "mediapipe-33" else 1)
    assert found.edges.shape == (len(found.bones), 2)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_mirror_of_the_mirror_is_the_skeleton_itself(name):
    found = layout(name)
    assert (found.mirror[found.mirror] == np.arange(len(found.joints))).all()
    for joint, other in zip(found.joints, found.mirror, strict=True):
        assert found.joints[other] == (
            joint.replace("left_", "right_")
            if "left_" in joint
            else joint.replace("right_", "left_")
        )


def test_the_orders_of_the_data_sets_are_as_they_are_published():
    assert KINECT_20.joints[:4] == ("hip_center", "spine", "shoulder_center", "head")
    assert UTD_MHAD_20.joints[:4] == ("head", "shoulder_center", "spine", "hip_center")
    assert KINECT_20.joints[4:] == UTD_MHAD_20.joints[4:]
    assert KINECT_20.joints[7] == "left_hand"
    assert KINECT_20.joints[19] == "right_foot"
    assert [MEDIAPIPE_33.joints[i] for i in (0, 11, 16, 24, 32)] == [
        "nose", "left_shoulder", "right_wrist", "right_hip", "right_foot_index"
    ]  # fmt: skip


def test_an_unknown_layout_is_refused_with_what_there_is():
    with pytest.raises(ConfigError, match=r"no skeleton layout 'coco-17'; there are mediapipe-33"):
        layout("coco-17")


def test_reordering_keeps_every_joint_under_its_name():
    joints = np.arange(2 * 20 * 3, dtype=np.float32).reshape(2, 20, 3)
    moved = reorder(joints, UTD_MHAD_20, KINECT_20)
    for name in KINECT_20.joints:
        assert (moved[:, KINECT_20.index(name)] == joints[:, UTD_MHAD_20.index(name)]).all()
    assert (reorder(moved, KINECT_20, UTD_MHAD_20) == joints).all()


def test_kinect_joints_lie_where_the_landmarks_say():
    world = np.random.default_rng(0).normal(size=(33, 3)).astype(np.float32)
    kinect = kinect_from_mediapipe(world)

    def mark(name):
        return world[MEDIAPIPE_33.index(name)]

    def joint(name):
        return kinect[KINECT_20.index(name)]

    hips = (mark("left_hip") + mark("right_hip")) / 2
    shoulders = (mark("left_shoulder") + mark("right_shoulder")) / 2
    for name, point in {
        "hip_center": hips,
        "shoulder_center": shoulders,
        "spine": hips + 0.3 * (shoulders - hips),
        "head": (mark("left_ear") + mark("right_ear")) / 2,
        "left_elbow": mark("left_elbow"),
        "right_hand": (mark("right_pinky") + mark("right_index") + mark("right_thumb")) / 3,
        "left_foot": mark("left_foot_index"),
    }.items():
        assert joint(name) == pytest.approx(point, abs=1e-6)
