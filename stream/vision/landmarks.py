"""People and hands in one frame, found by the models that come with mediapipe."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2, load_solution

_WHAT = "The node 'keypoints'"
# MediaPipe has x to the right of the image, y down, z away; see `stream.vision.layouts`.
_TO_METRES = np.array([-1, -1, 1], np.float32)

Floats = NDArray[np.float32]


class Body(NamedTuple):
    """The person that is followed.

    Attributes
    ----------
    image
        (33, 3): x and y in pixels of the frame, and visibility from 0 to 1.
    world
        (33, 3): metres from the middle of the hips, axes as in `stream.vision.layouts`.
    """

    image: Floats
    world: Floats


class Hand(NamedTuple):
    """A hand.

    Attributes
    ----------
    image
        (21, 2): x and y in pixels of the frame.
    world
        (21, 3): metres from the middle of the hand, axes as in `stream.vision.layouts`.
    left
        How likely it is a left hand, from 0 to 1.
    """

    image: Floats
    world: Floats
    left: float


class BodyFinder:
    """Finds one person and then follows that one from frame to frame.

    Detection runs on the first frame and whenever the person was lost; in between, the landmarks
    of one frame say where to look in the next. MediaPipe's own smoothing is off: it takes every
    frame to be 1/30 s after the one before.
    """

    def __init__(self, height: int, width: int, detection: float) -> None:
        """Load the models; `detection` is how sure the detector must be, from 0 to 1."""
        self._graph = load_solution("pose", _WHAT).Pose(
            # The model that the wheel carries; the other two would be downloaded.
            model_complexity=1,
            smooth_landmarks=False,
            min_detection_confidence=detection,
        )
        self._size = np.array([width, height, 1], np.float32)

    def find(self, rgb: Frame) -> Body | None:
        """Return the person in a frame (red, green, blue), None when nobody is in view."""
        result = self._graph.process(rgb)
        if result.pose_landmarks is None:
            return None
        image = [(p.x, p.y, p.visibility) for p in result.pose_landmarks.landmark]
        world = _metres(result.pose_world_landmarks)
        return Body(np.array(image, np.float32) * self._size, world)

    def close(self) -> None:
        """Release the models."""
        self._graph.close()


class HandFinder:
    """Finds up to two hands and follows them."""

    def __init__(self, height: int, width: int, detection: float) -> None:
        """Load the models; `detection` is how sure the detector must be, from 0 to 1."""
        self._graph = load_solution("hands", _WHAT).Hands(
            max_num_hands=2, min_detection_confidence=detection
        )
        self._size = np.array([width, height], np.float32)

    def find(self, rgb: Frame) -> list[Hand]:
        """Return the hands in a frame (red, green, blue)."""
        result = self._graph.process(rgb)
        hands = []
        for marks, world, side in zip(
            result.multi_hand_landmarks or (),
            result.multi_hand_world_landmarks or (),
            result.multi_handedness or (),
            strict=True,
        ):
            (guess,) = side.classification
            # The model was trained on mirrored pictures and names the sides accordingly.
            left = guess.score if guess.label == "Right" else 1 - guess.score
            image = np.array([(p.x, p.y) for p in marks.landmark], np.float32) * self._size
            hands.append(Hand(image, _metres(world), left))
        return hands

    def close(self) -> None:
        """Release the models."""
        self._graph.close()


def to_rgb(frame: Frame) -> Frame:
    """Return a frame of a stream in the order of colours that the models take."""
    cv2 = load_cv2(_WHAT)
    rgb: Frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return rgb


def _metres(landmarks: Any) -> Floats:
    points = np.array([(p.x, p.y, p.z) for p in landmarks.landmark], np.float32)
    return points * _TO_METRES
