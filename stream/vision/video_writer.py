"""Writes frames with times to a video file of a fixed rate, so that it lasts as long as they."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.errors import RecordingError
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

_LONGEST_FILL_S = 2.0


class VideoWriter:
    """An .mp4 (or .mkv) file that is being written.

    A video has one frame every 1 / `rate_hz` seconds: where frames are missing the last one is
    shown again, and where there are two the newer one stays. A longer time without frames is
    shortened to 2 s.

    Attributes
    ----------
    written, repeated, merged
        Frames in the file; those of them shown again; frames left out for a newer one.
    cut_s
        Time without frames that was left out.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], rate_hz: float, coding: str = "mp4v"
    ) -> None:
        """Begin a file.

        Parameters
        ----------
        path
            The file.
        size
            Width and height.
        rate_hz
            Frames a second.
        coding
            Four letters: `mp4v` is small; `MJPG` is eight times larger, keeps more, and each frame
            stands for itself.

        Raises
        ------
        RecordingError
            It cannot be written.
        """
        self.path = path
        self.written = 0
        self.repeated = 0
        self.merged = 0
        self.cut_s = 0.0
        self._rate_hz = rate_hz
        self._origin_ns: int | None = None
        self._waiting: NDArray[np.uint8] | None = None
        self._slot = 0
        cv2 = load_cv2("The node 'overlay'")
        self._cv2 = cv2
        self._out = cv2.VideoWriter(
            str(path.absolute()), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*coding), rate_hz, size
        )
        if not self._out.isOpened():
            raise RecordingError(f"{path} cannot be written as a video; is its folder writable?")

    def write(self, frame: Frame, time_ns: int) -> None:
        """Add a frame that was taken at `time_ns`."""
        if self._origin_ns is None or self._waiting is None:
            self._origin_ns = time_ns
            self._waiting = frame.copy()
            return
        slot = round((time_ns - self._origin_ns) / 1e9 * self._rate_hz)
        longest = max(1, round(_LONGEST_FILL_S * self._rate_hz))
        excess = max(0, slot - self._slot - longest) if slot > self._slot else slot - self._slot - 1
        if slot == self._slot:
            self.merged += 1
        elif excess:
            # A long silence, or a clock that went back: go on from here.
            self._origin_ns += round(excess / self._rate_hz * 1e9)
            self.cut_s += max(0, excess) / self._rate_hz
            slot -= excess
        self._put(slot)
        np.copyto(self._waiting, frame)

    def close(self) -> None:
        """Finish the file and look whether all is in it.

        Raises
        ------
        RecordingError
            It is not: the disk is full or fails.
        """
        if self._waiting is not None:
            self._put(self._slot + 1)
        self._out.release()
        if not self.written:
            self.path.unlink(missing_ok=True)
            return
        capture = self._cv2.VideoCapture(str(self.path.absolute()), self._cv2.CAP_FFMPEG)
        found = round(capture.get(self._cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        if abs(found - self.written) > 1:
            raise RecordingError(
                f"{self.path} holds {found} of the {self.written} frames that were written to it;"
                " is the disk full?"
            )

    def _put(self, slot: int) -> None:
        """Write the frame that waits for every place up to `slot`."""
        count = slot - self._slot
        for _ in range(count):
            self._out.write(self._waiting)
        self.written += count
        self.repeated += max(0, count - 1)
        self._slot = slot
