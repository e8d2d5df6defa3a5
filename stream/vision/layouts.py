"""Layouts of skeletons: which joint stands where, what is joined to what, what mirrors what.

`docs/vision.md` shows them as a picture. Positions of joints in metres have x to the left as the
camera sees it, y up and z away from the camera: right-handed, as Kinect has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError

_LEFT, _RIGHT = "left_", "right_"


@dataclass(frozen=True)
class Layout:
    """The joints of a skeleton in the order in which arrays hold them.

    Attributes
    ----------
    name
        What stands under `layout` in the `meta` of a stream.
    joints
        A name for each joint; those of the two sides begin with `left_` and `right_`, which are
        the person's own.
    bones
        Pairs of joints that a drawing connects.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[str, str], ...]

    def index(self, joint: str) -> int:
        """Return where a joint stands.

        Raises
        ------
        ValueError
            The layout has no such joint.
        """
        return self.joints.index(joint)

    @cached_property
    def edges(self) -> NDArray[np.intp]:
        """The bones as pairs of indices, (bones, 2)."""
        return np.array([[self.index(a), self.index(b)] for a, b in self.bones])

    @cached_property
    def mirror(self) -> NDArray[np.intp]:
        """For each joint the index of its counterpart on the other side, or its own."""
        other = {_LEFT: _RIGHT, _RIGHT: _LEFT}
        names = []
        for joint in self.joints:
            side = next((s for s in other if joint.startswith(s)), "")
            names.append(other[side] + joint.removeprefix(side) if side else joint)
        return np.array([self.index(name) for name in names])


def _both(*bones: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((side + a, side + b) for side in (_LEFT, _RIGHT) for a, b in bones)


MEDIAPIPE_33 = Layout(
    "mediapipe-33",
    (
        "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
        "right_eye_outer", "left_ear", "right_ear", "left_mouth", "right_mouth", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
        "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
        "right_heel", "left_foot_index", "right_foot_index",
    ),
    (
        ("left_shoulder", "right_shoulder"), ("left_hip", "right_hip"),
        ("left_mouth", "right_mouth"),
        *_both(
            ("shoulder", "hip"), ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "pinky"),
            ("wrist", "index"), ("wrist", "thumb"), ("pinky", "index"), ("hip", "knee"),
            ("knee", "ankle"), ("ankle", "heel"), ("ankle", "foot_index"), ("heel", "foot_index"),
            ("eye_inner", "eye"), ("eye", "eye_outer"), ("eye_outer", "ear"),
        ),
        ("nose", "left_eye_inner"), ("nose", "right_eye_inner"),
    ),
)  # fmt: skip
"""The landmarks of MediaPipe's pose model, in its order."""

_ARM_AND_LEG = _both(
    ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "hand"),
    ("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"),
)  # fmt: skip
_KINECT_BONES = (
    ("head", "shoulder_center"), ("shoulder_center", "spine"), ("spine", "hip_center"),
    ("shoulder_center", "left_shoulder"), ("shoulder_center", "right_shoulder"),
    ("hip_center", "left_hip"), ("hip_center", "right_hip"), *_ARM_AND_LEG,
)  # fmt: skip
_KINECT_LIMBS = (
    *(f"left_{joint}" for joint in ("shoulder", "elbow", "wrist", "hand")),
    *(f"right_{joint}" for joint in ("shoulder", "elbow", "wrist", "hand")),
    *(f"left_{joint}" for joint in ("hip", "knee", "ankle", "foot")),
    *(f"right_{joint}" for joint in ("hip", "knee", "ankle", "foot")),
)

KINECT_20 = Layout(
    "kinect-20",
    ("hip_center", "spine", "shoulder_center", "head", *_KINECT_LIMBS),
    _KINECT_BONES,
)
"""The joints of a first-generation Kinect in the order of its SDK and of NW-UCLA."""

UTD_MHAD_20 = Layout(
    "utd-mhad-20",
    ("head", "shoulder_center", "spine", "hip_center", *_KINECT_LIMBS),
    _KINECT_BONES,
)
"""The same joints in the order of UTD-MHAD."""

_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
_PHALANGES = ("mcp", "pip", "dip", "tip")
_THUMB = ("cmc", "mcp", "ip", "tip")

HAND_21 = Layout(
    "mediapipe-hand-21",
    (
        "wrist",
        *(f"thumb_{part}" for part in _THUMB),
        *(f"{finger}_{part}" for finger in _FINGERS[1:] for part in _PHALANGES),
    ),
    (
        ("wrist", "thumb_cmc"), ("wrist", "index_mcp"), ("wrist", "pinky_mcp"),
        ("index_mcp", "middle_mcp"), ("middle_mcp", "ring_mcp"), ("ring_mcp", "pinky_mcp"),
        *((f"thumb_{a}", f"thumb_{b}") for a, b in pairwise(_THUMB)),
        *(
            (f"{finger}_{a}", f"{finger}_{b}")
            for finger in _FINGERS[1:]
            for a, b in pairwise(_PHALANGES)
        ),
    ),
)  # fmt: skip
"""The landmarks of MediaPipe's hand model, in its order."""

LAYOUTS = {layout.name: layout for layout in (MEDIAPIPE_33, KINECT_20, UTD_MHAD_20, HAND_21)}
"""Every layout by name."""


def layout(name: str) -> Layout:
    """Return the layout of this name.

    Raises
    ------
    ConfigError
        There is none.
    """
    try:
        return LAYOUTS[name]
    except KeyError:
        raise ConfigError(
            f"there is no skeleton layout {name!r}; there are {', '.join(LAYOUTS)}."
        ) from None


def reorder(joints: NDArray[Any], source: Layout, target: Layout) -> NDArray[Any]:
    """Put joints (..., joints, values) from one layout into the order of another.

    Raises
    ------
    ValueError
        `target` has a joint that `source` has not.
    """
    return joints[..., [source.index(joint) for joint in target.joints], :]


# Each Kinect joint as a mean of landmarks. Kinect's spine joint lies between the hips and the
# shoulders, nearer to the hips.
_SPINE = 0.3
_FROM_LANDMARKS: dict[str, dict[str, float]] = {
    "hip_center": {"left_hip": 0.5, "right_hip": 0.5},
    "spine": {
        "left_hip": (1 - _SPINE) / 2, "right_hip": (1 - _SPINE) / 2,
        "left_shoulder": _SPINE / 2, "right_shoulder": _SPINE / 2,
    },
    "shoulder_center": {"left_shoulder": 0.5, "right_shoulder": 0.5},
    "head": {"left_ear": 0.5, "right_ear": 0.5},
    **{
        f"{side}hand": {f"{side}{finger}": 1 / 3 for finger in ("pinky", "index", "thumb")}
        for side in (_LEFT, _RIGHT)
    },
    **{f"{side}foot": {f"{side}foot_index": 1.0} for side in (_LEFT, _RIGHT)},
}  # fmt: skip


def _landmark_weights() -> NDArray[np.float32]:
    weights = np.zeros((len(KINECT_20.joints), len(MEDIAPIPE_33.joints)), np.float32)
    for row, joint in zip(weights, KINECT_20.joints, strict=True):
        for landmark, weight in _FROM_LANDMARKS.get(joint, {joint: 1.0}).items():
            row[MEDIAPIPE_33.index(landmark)] = weight
    return weights


_WEIGHTS = _landmark_weights()


def kinect_from_mediapipe(world: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return Kinect joints (20, 3) from the landmarks (33, 3) of one person, both in metres.

    The origin stays where MediaPipe has it, between the hips: where the person stands is not in
    there. Both have the axes of this module.
    """
    return _WEIGHTS @ world
