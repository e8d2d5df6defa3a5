"""A thread that keeps taking frames from a camera, and finds it again when it was lost."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import NamedTuple

from stream.errors import InnervateError
from stream.vision.device import Camera, Grabbed, Wanted
from stream.vision.frames import Frame

_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 8.0
_KEPT = 4
_CLOSE_S = 3.0
_LOGGED_REFUSALS = 20

_log = logging.getLogger(__name__)


class Captured(NamedTuple):
    """A frame from a camera.

    Attributes
    ----------
    frame, t_ns
        As in `Grabbed`.
    gap
        Frames missing just before it; of an outage, as many as its length at the stated rate.
    outages
        How often the camera had been lost before.
    """

    frame: Frame
    t_ns: int
    gap: int
    outages: int


class Capture:
    """Takes frames as fast as the camera gives them, so that none grows old in a buffer.

    Frames wait here, four at most: when nobody takes them the oldest are dropped. A camera that
    ends, breaks off or keeps silent is opened again, after pauses that double from 0.25 s to 8 s.

    Attributes
    ----------
    losses
        Frames that were not handed out, by reason: `overrun` (nobody took them in time),
        `wrong_size`, `undecodable`. Only the thread changes it.
    lost_ns
        Since when the camera has been away; None while it is there.
    outages, attempts
        How often it was lost, and how often it was tried to open it again.
    """

    def __init__(self, wanted: Wanted, shape: tuple[int, ...], rate_hz: float | None) -> None:
        self.losses = {"overrun": 0, "wrong_size": 0, "undecodable": 0}
        self.lost_ns: int | None = None
        self.outages = 0
        self.attempts = 0
        self._wanted = wanted
        self._shape = shape
        self._rate_hz = rate_hz
        self._last_ns = 0
        self._gap = 0
        self._frames: deque[Captured] = deque()
        self._arrived = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self, camera: Camera) -> None:
        """Begin with a camera that is open."""
        self._camera: Camera | None = camera
        self._thread.start()

    @property
    def next_ns(self) -> int | None:
        """When the oldest frame that waits here was grabbed; None when none waits."""
        frames = self._frames
        return frames[0].t_ns if frames else None

    def take(self, patience_s: float) -> list[Captured]:
        """Return the frames that wait here; when there are none, wait a little for one."""
        with self._arrived:
            if not self._frames:
                self._arrived.wait(patience_s)
            taken = list(self._frames)
            self._frames.clear()
        return taken

    def forget(self) -> dict[str, int]:
        """Throw away the frames that wait here, and return the losses up to now."""
        with self._arrived:
            self._frames.clear()
            self._gap = 0
            return dict(self.losses)

    def close(self) -> None:
        """Release the camera. One that answers no more is left to the end of the process."""
        self._stop.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            camera, self._camera = self._camera or self._find(), None
            if camera is None:
                return
            while not self._stop.is_set() and (grabbed := camera.read()) is not None:
                self._take_in(grabbed)
            camera.close()
            if not self._stop.is_set():
                self.outages += 1
                self.lost_ns = time.monotonic_ns()
                _log.warning("%s gives no more frames; opening it again", self._wanted.name)

    def _find(self) -> Camera | None:
        pause_s = _FIRST_PAUSE_S
        while not self._stop.wait(pause_s):
            self.attempts += 1
            try:
                return Camera(self._wanted)
            except InnervateError as error:
                _log.warning("attempt %d: %s", self.attempts, error)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        return None

    def _take_in(self, grabbed: Grabbed) -> None:
        frame, t_ns = grabbed
        if frame is None or frame.shape != self._shape:
            reason = "undecodable" if frame is None else "wrong_size"
            self._refuse(reason, frame)
            return
        if self.lost_ns is not None:
            _log.warning("%s is back", self._wanted.name)
            missed = (t_ns - self._last_ns) / 1e9 * (self._rate_hz or 0)
            self._gap += max(1, round(missed) - 1)
            self.lost_ns = None
        self._last_ns = t_ns
        with self._arrived:
            if len(self._frames) == _KEPT:
                # Its own gap and itself are now missing before the one behind it.
                oldest = self._frames.popleft()
                second = self._frames.popleft()
                self._frames.appendleft(second._replace(gap=second.gap + oldest.gap + 1))
                self.losses["overrun"] += 1
            self._frames.append(Captured(frame, t_ns, self._gap, self.outages))
            self._gap = 0
            self._arrived.notify()

    def _refuse(self, reason: str, frame: Frame | None) -> None:
        with self._arrived:
            self.losses[reason] += 1
            self._gap += 1
        if sum(self.losses.values()) <= _LOGGED_REFUSALS:
            found = "a frame that cannot be decoded"
            if frame is not None:
                found = f"a frame of {frame.shape[1]}x{frame.shape[0]}"
            _log.warning(
                "%s sent %s; it began with %dx%d", self._wanted.name, found, self._shape[1],
                self._shape[0],
            )  # fmt: skip
