"""The `keypoints` node: from frames to the joints of a person, and of hands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import Hertz, to_ns
from stream.vision.frames import check_frames
from stream.vision.landmarks import Body, BodyFinder, Floats, Hand, HandFinder, to_rgb
from stream.vision.layouts import (
    HAND_21,
    KINECT_20,
    MEDIAPIPE_33,
    Layout,
    kinect_from_mediapipe,
)
from stream.vision.level import Level
from stream.vision.smoothing import OneEuro

METRES = ("x", "y", "z")
PIXELS = ("x", "y", "visibility")
HAND_PIXELS = ("x", "y", "confidence")
_SAME_PERSON_NS = to_ns(0.5)
# How much faster the smoothing follows, in Hz, for each body size a second.
_BETA = 6.0
_BODY_M = 1.7
_HAND_M = 0.18


class KeypointsSettings(NodeSettings):
    """Settings of `keypoints`."""

    pose: bool = Field(True, description="find a person: the main output, `world` and `kinect`")
    hands: bool = Field(False, description="find hands: the outputs `hands` and `hands_world`")
    detection: float = Field(
        0.5, gt=0, lt=1, description="how sure the detectors must be; more where they see ghosts"
    )
    smoothing: Hertz | None = Field(
        None, description="One-Euro filter with this cutoff at rest, such as 1 Hz; none by default"
    )


class Keypoints(Node[KeypointsSettings]):
    """Find one person and up to two hands in each frame, with MediaPipe, on the CPU, offline.

    Outputs, float32, each with the times of its frame:

    - main: `keypoints` (33, 3): x, y in pixels and visibility, 0 to 1
    - `world`: `skeleton` (33, 3): x, y, z in metres from the middle of the hips, y up in the world
      once somebody has stood upright, see `stream.vision.level`
    - `kinect`: `skeleton` (20, 3): the same person as Kinect joints
    - `hands`: `keypoints` (2, 21, 3): left then right; x, y in pixels and confidence
    - `hands_world`: `skeleton` (2, 21, 3): metres from the middle of each hand

    Every frame leads to a packet. When nobody is in view its coordinates are NaN, its visibility is
    0, and `state` in its `meta` is `none`. The model follows one person: whom it detects first,
    until that one is lost. `track` in `meta` counts the persons so far, and a new one begins a
    segment, so that what carries state starts afresh.
    """

    use = "keypoints"
    summary = "joints of one person, and of hands, in each frame (MediaPipe)"
    Settings = KeypointsSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"frame"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the streams of what is to be found.

        Raises
        ------
        ConfigError
            Nothing is to be found, or the frames are not what this node takes.
        MissingExtraError
            mediapipe is not installed.
        """
        ((stream, spec),) = inputs.items()
        height, width = check_frames(self.use, stream, spec)
        if not (self.settings.pose or self.settings.hands):
            raise ConfigError("'pose' and 'hands' are both false, so there is nothing to find.")
        to_rgb(np.zeros((1, 1, 3), np.uint8))

        def stream_of(kind: str, layout: Layout, names: tuple[str, ...], hands: int) -> StreamSpec:
            shape = (len(layout.joints), 3)
            return StreamSpec(
                kind=kind,
                shape=(hands, *shape) if hands else shape,
                dtype="float32",
                names=names,
                unit="px" if kind == "keypoints" else "m",
                period_s=spec.period_s,
                meta={"layout": layout.name, "height": height, "width": width},
            )

        specs: dict[str, StreamSpec] = {}
        if self.settings.pose:
            specs[""] = stream_of("keypoints", MEDIAPIPE_33, PIXELS, 0)
            specs["world"] = stream_of("skeleton", MEDIAPIPE_33, METRES, 0)
            specs["kinect"] = stream_of("skeleton", KINECT_20, METRES, 0)
        if self.settings.hands:
            specs["hands"] = stream_of("keypoints", HAND_21, HAND_PIXELS, 2)
            specs["hands_world"] = stream_of("skeleton", HAND_21, METRES, 2)
        return specs

    def open(self, context: Context) -> None:
        """Load the models and run them once, so that the first frame meets no first-time cost."""
        super().open(context)
        ((stream, spec),) = context.inputs.items()
        height, width = check_frames(self.use, stream, spec)
        s = self.settings
        self._body = BodyFinder(height, width, s.detection) if s.pose else None
        self._hands = HandFinder(height, width, s.detection) if s.hands else None
        black = np.zeros((height, width, 3), np.uint8)
        for finder in (self._body, self._hands):
            if finder is not None:
                finder.find(black)
        cutoff_hz = s.smoothing
        self._filters: dict[str, OneEuro] = {}
        if cutoff_hz is not None:
            self._filters = {
                name: OneEuro(cutoff_hz, _BETA) for name in ("", "world", "hands", "hands_world")
            }
        self._track = Track()
        self._level = Level()
        self._seen_ns = 0
        self._without = 0
        if self._body is not None:
            context.counters.note("frames_without_person", 0)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Find what is in a frame."""
        rgb = to_rgb(packet.data)
        packets: list[Packet] = []
        if self._body is not None:
            packets.extend(self._person(packet, self._body.find(rgb)))
        if self._hands is not None:
            packets.extend(self._pair(packet, self._hands.find(rgb)))
        for made in packets:
            # Persons begin segments of their own, which the hands share.
            made.segment = self._track.segment if self._body is not None else packet.segment
        return packets

    def close(self) -> None:
        """Release the models."""
        for finder in (getattr(self, "_body", None), getattr(self, "_hands", None)):
            if finder is not None:
                finder.close()

    def _person(self, packet: Packet, body: Body | None) -> Iterator[Packet]:
        if self._track.update(packet, body):
            for smoother in self._filters.values():
                smoother.reset()
        if body is None:
            self._without += 1
            self.context.counters.note("frames_without_person", self._without)
        else:
            self._level.update(body, (packet.source_ns - self._seen_ns) / 1e9)
            self._seen_ns = packet.source_ns
            self.context.counters.note("camera_pitch_deg", round(self._level.pitch_deg, 1))
        self.context.counters.note("persons", self._track.number)
        image, world = _nobody() if body is None else body
        pixels = _extent(image[:, :2])
        image = image.copy()
        image[:, :2] = self._smooth("", image[:, :2], packet.source_ns, pixels)
        world = self._smooth("world", self._level.apply(world), packet.source_ns, _BODY_M)
        meta = {"state": self._track.state, "track": self._track.number}
        yield packet.derive("keypoints", image, meta=meta)
        yield packet.derive("skeleton", world, output="world", meta=meta)
        yield packet.derive("skeleton", kinect_from_mediapipe(world), output="kinect", meta=meta)

    def _pair(self, packet: Packet, hands: list[Hand]) -> Iterator[Packet]:
        image = np.full((2, len(HAND_21.joints), 3), np.nan, np.float32)
        image[:, :, 2] = 0
        world = np.full((2, len(HAND_21.joints), 3), np.nan, np.float32)
        for side, hand in sides(hands):
            image[side, :, :2] = hand.image
            image[side, :, 2] = hand.left if side == 0 else 1 - hand.left
            world[side] = hand.world
        pixels = max((_extent(hand.image) for hand in hands), default=1.0)
        image[..., :2] = self._smooth("hands", image[..., :2], packet.source_ns, pixels)
        world = self._smooth("hands_world", world, packet.source_ns, _HAND_M)
        yield packet.derive("keypoints", image, output="hands")
        yield packet.derive("skeleton", world, output="hands_world")

    def _smooth(self, name: str, values: Floats, time_ns: int, scale: float) -> Floats:
        smoother = self._filters.get(name)
        return values if smoother is None else smoother.filter(values.copy(), time_ns, scale)


class Track:
    """Whether the person of a frame is still the one of the frame before.

    Attributes
    ----------
    state
        `none`: nobody in view; `found`: somebody was detected; `tracked`: still the same.
    number
        How many persons there have been, the one in view included.
    segment
        Rises with every new person and with every new segment of the frames.
    """

    def __init__(self) -> None:
        self.state = "none"
        self.number = 0
        self.segment = 0
        self._frames: int | None = None
        self._seen_ns: int | None = None
        self._box = np.zeros((2, 2), np.float32)

    def update(self, packet: Packet, body: Body | None) -> bool:
        """Take what was found in a frame. Return whether a new segment begins with it."""
        new_frames = self._frames is not None and packet.segment != self._frames
        self._frames = packet.segment
        if new_frames:
            self._seen_ns = None
            self.state = "none"
        if body is None:
            self.state = "none"
            self.segment += new_frames
            return new_frames
        points = body.image[:, :2]
        box = np.array([points.min(0), points.max(0)])
        # Who was away for longer than a moment, or is suddenly elsewhere, may be somebody else.
        same = (
            self._seen_ns is not None
            and packet.source_ns - self._seen_ns <= _SAME_PERSON_NS
            and bool((box[0] < self._box[1]).all() and (self._box[0] < box[1]).all())
        )
        self.state = "tracked" if same and self.state != "none" else "found"
        begins = new_frames or (not same and self.number > 0)
        self.number += not same
        self.segment += begins
        self._seen_ns, self._box = packet.source_ns, box
        return begins


def sides(hands: list[Hand]) -> list[tuple[int, Hand]]:
    """Return which of two hands is the left one (0) and which the right one (1).

    Two that look like the same side get one each, the more certain one first.
    """
    ranked = sorted(hands, key=lambda hand: -abs(hand.left - 0.5))
    chosen: dict[int, Hand] = {}
    for hand in ranked[:2]:
        side = int(hand.left < 0.5)
        chosen[1 - side if side in chosen else side] = hand
    return sorted(chosen.items(), key=lambda item: item[0])


def _nobody() -> Body:
    joints = len(MEDIAPIPE_33.joints)
    image = np.full((joints, 3), np.nan, np.float32)
    image[:, 2] = 0
    return Body(image, np.full((joints, 3), np.nan, np.float32))


def _extent(points: Floats) -> float:
    """Return the longer side of the box around points, at least a pixel."""
    if np.isnan(points).any():
        return 1.0
    return max(1.0, float(np.ptp(points, axis=0).max()))
