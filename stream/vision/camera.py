"""`camera`: live frames."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from stream.errors import ConfigError
from stream.instruments.live import tell_losses
from stream.node import Context, NodeSettings, Source, StreamSpec
from stream.packet import Packet
from stream.units import Hertz
from stream.vision.capture import Capture
from stream.vision.device import Camera, CameraError, Wanted
from stream.vision.frames import frame_packet, frame_spec

_PATIENCE_S = 0.002
_ASSUMED_HZ = 60.0
_IDLE_NS = 10_000_000
_RATE_FRAMES = 60
_SLOW = 0.9


def _device(value: object) -> object:
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if number or (isinstance(value, str) and (value.startswith("/dev/") or "://" in value)):
        return value
    raise ValueError(
        "expected the number of a camera (0), its path (/dev/v4l/by-id/...) or an address"
        f" (rtsp://..., http://...), found {value!r}"
    )


class CameraSettings(NodeSettings):
    """Settings of `camera`."""

    device: Annotated[int | str, BeforeValidator(_device)] = Field(
        0, description="number of a camera, path such as /dev/video0, or address (rtsp, http)"
    )
    size: str | None = Field(
        None,
        pattern=r"^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$",
        description="width x height, such as 640x480; by default what the camera gives",
    )
    rate: Hertz | None = Field(
        None, gt=0, description="frames a second; by default what the camera gives"
    )


class CameraSource(Source[CameraSettings]):
    """Send what a camera sees, frame by frame.

    Each frame carries the time at which it was grabbed: on the host clock as `t_ns`, and since the
    start of the run as `source_ns`. A camera that is lost is opened again; the first frame after
    that begins a segment and says in `gap` how many were missed.
    """

    use = "camera"
    summary = "live frames of a camera: a local device or an address"
    Settings = CameraSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Open the camera, look at one frame, and return what it gives.

        Raises
        ------
        ConfigError
            It cannot be opened, or does not give the size or the rate that is asked for.
        MissingExtraError
            OpenCV is not installed.
        """
        wanted = self._wanted()
        try:
            camera = Camera(wanted)
            try:
                frame = camera.first().frame
            finally:
                camera.close()
        except CameraError as error:
            raise ConfigError(str(error)) from None
        assert frame is not None
        height, width = frame.shape[:2]
        rate_hz = wanted.rate_hz or camera.rate_hz
        period_s = None if rate_hz is None else 1 / rate_hz
        return {"": frame_spec(height, width, period_s, {"camera": wanted.name})}

    def open(self, context: Context) -> None:
        """Open the camera and let it run, so that its first frames do not delay the start."""
        super().open(context)
        wanted = self._wanted()
        camera = Camera(wanted)
        frame = camera.first().frame
        assert frame is not None
        self._rate_hz = wanted.rate_hz or camera.rate_hz
        self._capture = Capture(wanted, frame.shape, self._rate_hz)
        self._capture.start(camera)
        self._start_ns: int | None = None
        self._shortest_ns = 1e9 / (self._rate_hz or _ASSUMED_HZ)
        self._last_ns = time.monotonic_ns()
        self._outages = 0
        self._told: dict[str, int] = {}
        self._frames = 0
        self._first_ns = 0

    def start(self, start_ns: int) -> None:
        """Count time from the common start; frames from before are not part of the run."""
        self._start_ns = start_ns
        self._told = self._capture.forget()

    def due_ns(self) -> int | None:
        """Return when to look for the next frame: shortly before it should come."""
        if self._start_ns is None:
            return None
        if (waiting_ns := self._capture.next_ns) is not None:
            return max(waiting_ns, self._start_ns)
        now_ns = time.monotonic_ns()
        if self._capture.lost_ns is not None:
            self._tell()
            return now_ns + _IDLE_NS
        expected_ns = self._last_ns + round(0.9 * self._shortest_ns)
        return max(self._start_ns, expected_ns, now_ns)

    def tick(self) -> Iterable[Packet]:
        """Send what has come, or wait a moment for it."""
        packets = []
        for frame, t_ns, gap, outages in self._capture.take(_PATIENCE_S):
            assert self._start_ns is not None
            # The shortest interval of late: a regular camera is asked once a frame, others often.
            self._shortest_ns = min(t_ns - self._last_ns, 1.02 * self._shortest_ns)
            self._last_ns = t_ns
            if t_ns < self._start_ns:
                continue
            self._measure(t_ns, outages)
            self._outages = outages
            packets.append(frame_packet(frame, t_ns, t_ns - self._start_ns, outages, gap))
        self._tell()
        return packets

    def close(self) -> None:
        """Release the camera."""
        if hasattr(self, "_capture"):
            self._capture.close()
            self._tell()

    def _wanted(self) -> Wanted:
        s = self.settings
        size = None
        if s.size is not None:
            width, _, height = s.size.partition("x")
            size = (int(width), int(height))
        return Wanted(s.device, size, s.rate)

    def _measure(self, t_ns: int, outages: int) -> None:
        """Note the rate at which frames really come, since many cameras slow down in the dark."""
        if outages != self._outages or not self._frames:
            self._frames, self._first_ns = 0, t_ns
        elif self._frames % _RATE_FRAMES == 0:
            rate_hz = self._frames * 1e9 / (t_ns - self._first_ns)
            self.context.counters.note("measured_hz", round(rate_hz, 2))
            if self._rate_hz is not None and rate_hz < _SLOW * self._rate_hz:
                self.context.counters.note("slower_than_stated_hz", self._rate_hz)
        self._frames += 1

    def _tell(self) -> None:
        tell_losses(self._capture, self._told, self.context.counters)
