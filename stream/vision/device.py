"""Cameras as OpenCV opens them: a local device or an address in a network."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stream.errors import InnervateError
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

_WHAT = "The node 'camera'"
_OPEN_TIMEOUT_MS = 5000
_PATIENCE_S = 2.0
_PATIENCE_FRAMES = 3
_RATE_TOLERANCE = 0.02
_USER = re.compile(r"(?<=://)[^/@\s]+@")


class CameraError(InnervateError):
    """A camera that is not there, or does not give what was asked for."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a camera.

    Attributes
    ----------
    device
        Number or path of a local device, or an address.
    size
        Width and height in pixels; None for what the camera has.
    rate_hz
        Frames a second; None for what the camera has.
    """

    device: int | str
    size: tuple[int, int] | None
    rate_hz: float | None

    @property
    def name(self) -> str:
        """The camera in messages, without the password that its address may hold."""
        if isinstance(self.device, int):
            return f"camera {self.device}"
        return f"camera {_USER.sub('...@', self.device)}"

    @property
    def is_address(self) -> bool:
        """Whether the camera is in a network rather than local."""
        return isinstance(self.device, str) and "://" in self.device


class Grabbed(NamedTuple):
    """A frame, or None for one that could not be decoded, and when it was grabbed."""

    frame: Frame | None
    t_ns: int


class Camera:
    """An open camera. `rate_hz` is what it says that it gives, None where it cannot tell."""

    def __init__(self, wanted: Wanted) -> None:
        """Open a camera and set it up.

        Raises
        ------
        CameraError
            It cannot be opened, or does not give the size or the rate that is asked for.
        """
        self._cv2 = load_cv2(_WHAT)
        self.wanted = wanted
        self._capture = self._open()
        self.rate_hz: float | None = None
        self._coded = False
        try:
            if wanted.is_address:
                self._ask_for_coded()
            else:
                self.rate_hz = negotiate(self._cv2, self._capture, wanted)
        except CameraError:
            self.close()
            raise

    def first(self) -> Grabbed:
        """Return the first frame, which tells the true size.

        Raises
        ------
        CameraError
            None comes, or it is not of the size that is asked for.
        """
        grabbed = self.read()
        if grabbed is None or grabbed.frame is None:
            raise CameraError(f"{self.wanted.name} was opened, but gives no frames.")
        height, width = grabbed.frame.shape[:2]
        if self.wanted.size not in (None, (width, height)):
            raise CameraError(
                f"{self.wanted.name} gives frames of {width}x{height}, not of"
                f" {_by(self.wanted.size)}; write 'size: {width}x{height}' or leave it out."
            )
        return grabbed

    def read(self) -> Grabbed | None:
        """Wait for the next frame; None when the camera has ended or keeps silent too long."""
        if not self._capture.grab():
            return None
        t_ns = time.monotonic_ns()
        ok, frame = self._capture.retrieve()
        if not ok:
            return Grabbed(None, t_ns)
        if self._coded:
            try:
                frame = self._cv2.imdecode(frame, self._cv2.IMREAD_COLOR)
            except self._cv2.error:
                frame = None
        return Grabbed(frame, t_ns)

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()

    def _open(self) -> Any:
        cv2, device = self._cv2, self.wanted.device
        if self.wanted.is_address:
            patience_s = _PATIENCE_S
            if self.wanted.rate_hz is not None:
                patience_s = max(patience_s, _PATIENCE_FRAMES / self.wanted.rate_hz)
            capture = cv2.VideoCapture(
                device,
                cv2.CAP_FFMPEG,
                [
                    cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_TIMEOUT_MS,
                    cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(1000 * patience_s),
                    # Each further thread of the decoder would hold back one more frame.
                    cv2.CAP_PROP_N_THREADS, 1,
                ],
            )  # fmt: skip
        else:
            api = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
            capture = cv2.VideoCapture(device, api)
        if capture.isOpened():
            return capture
        if self.wanted.is_address:
            raise CameraError(
                f"{self.wanted.name} cannot be reached: nothing answers there, or it sends no video"
                " that can be read."
            )
        there = ", ".join(str(path) for path in sorted(Path("/dev").glob("video*")))
        raise CameraError(
            f"{self.wanted.name} cannot be opened: it is not there, or another program has it."
            + (f" This machine has {there or 'no /dev/video*'}." if sys.platform == "linux" else "")
        )

    def _ask_for_coded(self) -> None:
        """Take the pictures of motion JPEG as they are and decode them one by one.

        OpenCV goes on with the first size when a later picture has another, and garbles it.
        """
        cv2 = self._cv2
        if int(self._capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter_fourcc(*"MJPG"):
            self._coded = bool(self._capture.set(cv2.CAP_PROP_FORMAT, -1))


def negotiate(cv2: Any, capture: Any, wanted: Wanted) -> float | None:
    """Set size and rate of a local camera, and return the rate that it then states.

    Many give large frames fast only as motion JPEG, so that is tried when the raw format does not
    do. The size is checked with the first frame.

    Raises
    ------
    CameraError
        The camera states another rate than it was asked for.
    """
    for coding in ("", "MJPG"):
        if coding:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter_fourcc(*coding))
        if wanted.size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size[1])
        if wanted.rate_hz is not None:
            capture.set(cv2.CAP_PROP_FPS, wanted.rate_hz)
        width, height, stated_hz = (
            capture.get(key)
            for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS)
        )
        rate_hz = float(stated_hz) if 0 < stated_hz < 10_000 else None
        fits = wanted.size in (None, (width, height)) and (
            wanted.rate_hz is None or rate_hz is None or _near(rate_hz, wanted.rate_hz)
        )
        if fits:
            return rate_hz
    if wanted.rate_hz is not None and rate_hz is not None and not _near(rate_hz, wanted.rate_hz):
        raise CameraError(
            f"{wanted.name} gives {rate_hz:g} frames a second at {width:g}x{height:g}, not"
            f" {wanted.rate_hz:g}; write 'rate: {rate_hz:g} Hz' or a smaller 'size'."
        )
    return rate_hz


def _near(found_hz: float, wanted_hz: float) -> bool:
    return abs(found_hz - wanted_hz) <= _RATE_TOLERANCE * wanted_hz


def _by(size: tuple[int, int] | None) -> str:
    return "x".join(map(str, size or ()))
