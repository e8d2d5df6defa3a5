"""Panels of what a camera sees: pictures and skeletons."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stream.node import Counters, StreamSpec
from stream.packet import Packet
from stream.page.panels.panel import Chunk, Panel
from stream.vision.layouts import LAYOUTS


class Skeleton(Panel):
    """The newest joints: `joints` (float32, joints x 3, those of both hands one after another)."""

    view = "skeleton"

    def describe(self) -> dict[str, Any]:
        """Return also the bones, as pairs of joints, and the size of the frames."""
        found = LAYOUTS[str(self.spec.meta["layout"])]
        sides = [
            1 if joint.startswith("left_") else 2 if joint.startswith("right_") else 0
            for joint in found.joints
        ]
        size = (self.spec.meta.get("width", 0), self.spec.meta.get("height", 0))
        return super().describe() | {"bones": found.edges.tolist(), "sides": sides, "size": size}

    def gather(self, packet: Packet) -> None:
        """Keep the newest."""
        self._joints = packet.data.reshape(-1, 3).astype(np.float32)

    def fold(self) -> Chunk:
        """Return the newest."""
        return {"joints": self._joints.tobytes()}


class Video(Panel):
    """The newest frame, made smaller, as a JPEG (`jpeg`), a few times a second."""

    view = "video"
    EVERY_NS: ClassVar[int] = 125_000_000
    WIDTH: ClassVar[int] = 480

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._due_ns = 0
        self._frame: NDArray[np.uint8] | None = None

    def gather(self, packet: Packet) -> None:
        """Copy a smaller frame, when one is due."""
        from stream.vision.opencv import load_cv2

        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns or not self.watched():
            return
        self._due_ns = now_ns + self.EVERY_NS
        height, width = packet.data.shape[:2]
        scale = min(1.0, self.WIDTH / width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        cv2 = load_cv2("The node 'page'")
        # The memory of the frame goes back to whoever sent it.
        small = packet.data.copy() if scale == 1 else cv2.resize(packet.data, size, interpolation=3)
        self._frame = small

    def fold(self) -> Chunk:
        """Return the frame, if there is one; whoever sends it makes it a JPEG."""
        frame, self._frame = self._frame, None
        return {} if frame is None else {"jpeg": frame}
