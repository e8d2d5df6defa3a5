"""Video files: what is in them, and their frames with the times at which they were taken."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stream.errors import RecordingError
from stream.files import check_there
from stream.units import to_ns
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

_PROBED_FRAMES = 32
# Containers count time in whole milliseconds or finer.
_TICK_S = 0.0011
_BEFORE_S = 2.0
_LOST_SHARE = 0.02
_LOST_FRAMES = 2


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself.

    Attributes
    ----------
    height, width
        Of its frames in pixels, turned as the file says.
    frames
        How many it announces; 0 when it does not.
    rate_hz
        Its mean frame rate; 0 when it does not say.
    period_s
        The interval between frames; None where it varies.
    """

    height: int
    width: int
    frames: int
    rate_hz: float
    period_s: float | None

    @property
    def duration_s(self) -> float:
        """How long it says that it is; infinite when it does not."""
        return self.frames / self.rate_hz if self.frames and self.rate_hz else math.inf


class VideoFile:
    """A video file that is read from front to back, once or more often.

    Attributes
    ----------
    counted_times
        Frames whose time the file does not tell; they are taken to follow at the mean rate.
    missing
        Frames that the file announces but does not give, known after its end.
    """

    def __init__(self, path: Path) -> None:
        """Open a file and look at its first frames.

        Raises
        ------
        RecordingError
            The file is not there, is no video, or has no frame that can be decoded.
        MissingExtraError
            OpenCV is not installed.
        """
        check_there(path)
        self.path = path
        self.counted_times = 0
        self.missing = 0
        self._cv2 = load_cv2("The node 'video'")
        capture = self._open()
        get = capture.get
        self._rate_hz = max(0.0, float(get(self._cv2.CAP_PROP_FPS)))
        announced = max(0, round(get(self._cv2.CAP_PROP_FRAME_COUNT)))
        first = list(itertools.islice(self._decoded(capture, 0.0), _PROBED_FRAMES))
        self.counted_times = 0
        if not first:
            raise RecordingError(
                f"{path} is opened as a video, but not one frame of it can be decoded."
            )
        height, width = first[0][1].shape[:2]
        steps_s = np.diff([time_s for time_s, _ in first])
        period_s = None
        if len(steps_s) and np.ptp(steps_s) <= 2 * _TICK_S:
            # The mean rate of the file is exact where times are rounded.
            mean_s = float(steps_s.mean())
            stated_s = 1 / self._rate_hz if self._rate_hz else mean_s
            period_s = stated_s if abs(stated_s - mean_s) <= _TICK_S else mean_s
        self.info = VideoInfo(height, width, announced, self._rate_hz, period_s)

    def frames(self, start_s: float = 0.0) -> Iterator[tuple[int, Frame]]:
        """Yield each frame from `start_s` on with its time on the clock of the file, in ns.

        Raises
        ------
        RecordingError
            The file ends long before the end that it announces: it is cut off or damaged. What
            could be read was yielded before.
        """
        read = 0
        for time_s, frame in self._decoded(self._seek(start_s), start_s):
            read += 1
            yield to_ns(time_s), frame
        if start_s:
            return
        announced = self.info.frames
        self.missing = max(0, announced - read)
        if self.missing > max(_LOST_FRAMES, _LOST_SHARE * announced):
            raise RecordingError(
                f"{self.path} announces {announced} frames, but only {read} can be decoded: it is"
                " cut off or damaged. Copy it again, or repair it with ffmpeg."
            )

    def _open(self) -> Any:
        # Without an absolute path, a name with a colon would be taken for an address.
        capture = self._cv2.VideoCapture(str(self.path.absolute()), self._cv2.CAP_FFMPEG)
        if not capture.isOpened():
            raise RecordingError(
                f"{self.path} cannot be read as a video: it is none, is cut off before its index,"
                " or is coded in a way that this OpenCV does not know."
            )
        # Telephones store what their sensor saw, and which way up it is.
        capture.set(self._cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture

    def _seek(self, start_s: float) -> Any:
        """Return an open file, some time before `start_s` where it lets itself be positioned."""
        capture = self._open()
        before_s = start_s - _BEFORE_S
        if before_s <= 0:
            return capture
        capture.set(self._cv2.CAP_PROP_POS_MSEC, 1000 * before_s)
        found_s = capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
        if 0 <= found_s <= start_s:
            return capture
        capture.release()
        return self._open()

    def _decoded(self, capture: Any, start_s: float) -> Iterator[tuple[float, Frame]]:
        last_s = -math.inf
        step_s = 1 / self._rate_hz if self._rate_hz else 0.0
        try:
            while capture.grab():
                time_s = capture.get(self._cv2.CAP_PROP_POS_MSEC) / 1000
                if not max(-1.0, last_s) < time_s < 1e9:
                    if not step_s:
                        raise RecordingError(
                            f"{self.path} says neither when its frames were taken nor at what"
                            " rate; put it into a container that does, such as .mp4 or .mkv."
                        )
                    self.counted_times += 1
                    time_s = last_s + step_s if math.isfinite(last_s) else 0.0
                last_s = time_s
                # Half a tick absorbs what rounding does to the time of a frame.
                if time_s < start_s - _TICK_S / 2:
                    continue
                ok, frame = capture.retrieve()
                if ok:
                    yield time_s, frame
        finally:
            capture.release()
