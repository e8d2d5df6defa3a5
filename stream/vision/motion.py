"""`skeletons.resample`: poses at the ticks of a fixed clock, whatever the frame rate is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import Seconds, format_seconds, to_ns

Pose = NDArray[np.float32]


class Clock:
    """Brings poses with time stamps to a fixed clock.

    The first pose is the first tick. A pose at a tick is interpolated between the two frames
    around it, so a tick is known with the first frame at or after it and nothing later is needed.

    Parameters
    ----------
    period_ns
        From tick to tick.
    hole_ns
        After a longer time without a frame the clock starts anew.
    """

    def __init__(self, period_ns: int, hole_ns: int) -> None:
        self._period_ns = period_ns
        self._hole_ns = hole_ns
        self._before: tuple[int, Pose] | None = None
        self._next_ns = 0

    def push(self, time_ns: int, pose: Pose) -> Iterator[tuple[int, Pose]]:
        """Take a frame and yield (time, pose) of the ticks that it settles.

        Raises
        ------
        ValueError
            The frame is not later than the one before.
        """
        before = self._before
        if before is not None and time_ns <= before[0]:
            raise ValueError("frames must come in order of time")
        self._before = time_ns, pose
        if before is None or time_ns - before[0] > self._hole_ns:
            self._next_ns = time_ns + self._period_ns
            return iter([(time_ns, pose)])
        return self._between(*before, time_ns, pose)

    def starts_anew(self, time_ns: int) -> bool:
        """Say whether a frame at this time would begin a new stretch."""
        return self._before is None or time_ns - self._before[0] > self._hole_ns

    def reset(self) -> None:
        """Forget everything, as before the first frame."""
        self._before = None

    def _between(
        self, start_ns: int, start: Pose, end_ns: int, end: Pose
    ) -> Iterator[tuple[int, Pose]]:
        ticks = []
        while self._next_ns <= end_ns:
            share = np.float32((self._next_ns - start_ns) / (end_ns - start_ns))
            ticks.append((self._next_ns, start + share * (end - start)))
            self._next_ns += self._period_ns
        return iter(ticks)


class ResampleSettings(NodeSettings):
    """Settings of `skeletons.resample`."""

    period: Seconds = Field(0.1, ge=1e-3, description="from tick to tick")
    hole: Seconds = Field(
        1.0, description="after a longer time without a pose, a new segment begins"
    )


class SkeletonsResample(Node[ResampleSettings]):
    """Gives one pose for every tick of a fixed clock, interpolated between frames.

    A tick leaves with the first frame at or after it: `t_ns` is that of this frame, `source_ns`
    the tick's own time. Missing frames up to `hole` are bridged by a straight line and told as
    `gap`. A new segment begins after a hole, and where the input begins one.
    """

    use = "skeletons.resample"
    summary = "brings poses to a fixed clock, so that models see no frame rate"
    Settings = ResampleSettings
    accepts = frozenset({"skeleton"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of ticks.

        Raises
        ------
        ConfigError
            `hole` is not longer than `period`.
        """
        ((_, spec),) = inputs.items()
        if self.settings.hole <= self.settings.period:
            raise ConfigError(
                f"hole: {format_seconds(self.settings.hole)} is not longer than the period of"
                f" {format_seconds(self.settings.period)}; make it longer."
            )
        return {
            "": StreamSpec(
                "skeleton", spec.shape, "float32", spec.names, spec.unit, self.settings.period,
                spec.meta,
            )
        }  # fmt: skip

    def open(self, context: Context) -> None:
        """Set the clock up."""
        super().open(context)
        self._clock = Clock(to_ns(self.settings.period), to_ns(self.settings.hole))
        ((_, spec),) = context.inputs.items()
        self._shape = spec.shape
        self._from: int | None = None
        self._number = -1
        self._gap = 0
        self._last_ns = 0

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Return the ticks that a pose settles."""
        if packet.segment != self._from:
            self._from = packet.segment
            self._clock.reset()
        self._gap += packet.gap
        if reason := self._refuse(packet):
            self.context.counters.drop(reason)
            self._gap += 1
            return ()
        if self._clock.starts_anew(packet.source_ns):
            self._number += 1
            self._gap = 0
        self._last_ns = packet.source_ns
        ticks = []
        pose = packet.data.astype(np.float32, copy=False)
        for time_ns, joints in self._clock.push(packet.source_ns, pose):
            ticks.append(
                Packet(
                    kind="skeleton", data=joints, t_ns=packet.t_ns, source_ns=time_ns,
                    source_end_ns=time_ns, segment=self._number, gap=self._gap, meta=packet.meta,
                )
            )  # fmt: skip
            self._gap = 0
        return ticks

    def _refuse(self, packet: Packet) -> str:
        """Return why a pose cannot be used, empty when it can."""
        if packet.data.shape != self._shape:
            return "wrong_shape"
        if not np.isfinite(packet.data).all():
            return "not_finite"
        if not self._clock.starts_anew(packet.source_ns) and packet.source_ns <= self._last_ns:
            return "late"
        return ""
