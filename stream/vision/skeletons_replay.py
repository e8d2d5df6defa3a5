"""`skeletons.replay`: recorded movements sent as if they happened now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stream.errors import ConfigError
from stream.node import Context, StreamSpec
from stream.paced import Loop, PacedSettings, PacedSource, Timed, laps
from stream.packet import Packet
from stream.units import Hertz, to_ns
from stream.vision.keypoints import METRES
from stream.vision.skeleton_files import SkeletonClip, load_clips

_REGULAR = 0.01


class SkeletonsReplaySettings(PacedSettings):
    """Settings of `skeletons.replay`."""

    file: Path = Field(description="clip (NW-UCLA .json, UTD-MHAD .mat, .npz) or a folder of them")
    pattern: str = Field("*", description="which files of a folder, such as '*_v03.json'")
    rate: Hertz | None = Field(
        None,
        gt=0,
        description="frames a second; by default the recorded times, where there are any",
    )
    loop: Loop = False


class SkeletonsReplay(PacedSource[SkeletonsReplaySettings]):
    """Stream recorded skeletons, one clip after the other.

    `skeleton` (joints, 3), float32, in metres. Each clip is a segment, so that what carries state
    starts afresh where two are joined; the clock goes on by one interval. `meta` of a packet names
    its `clip` and, where the data set has one, its `label`.
    """

    use = "skeletons.replay"
    summary = "recorded skeletons (NW-UCLA, UTD-MHAD, .npz), in real time or at any speed"
    Settings = SkeletonsReplaySettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Read the clips and return what they hold.

        Raises
        ------
        RecordingError
            A file cannot be read, or they differ in layout.
        ConfigError
            They hold no times and `rate` is not given.
        """
        clips = self._load()
        layout = clips[0].layout
        periods = {self._period_s(clip) for clip in clips}
        return {
            "": StreamSpec(
                kind="skeleton",
                shape=(len(layout.joints), 3),
                dtype="float32",
                names=METRES,
                unit="m",
                period_s=periods.pop() if len(periods) == 1 else None,
                meta={
                    "layout": layout.name,
                    "recording": self.settings.file.stem,
                    "clips": len(clips),
                },
            )
        }

    def open(self, context: Context) -> None:
        """Read the clips."""
        super().open(context)
        self.pace(self._play(self._load()))

    def _load(self) -> list[SkeletonClip]:
        s = self.settings
        clips = load_clips(s.file, s.pattern)
        untimed = [clip.name for clip in clips if clip.times_s is None]
        if untimed and s.rate is None:
            raise ConfigError(
                f"{untimed[0]} does not say when its frames were taken; give their 'rate', such as"
                " 'rate: 30 Hz' for a Kinect at full speed."
            )
        return clips

    def _times_ns(self, clip: SkeletonClip) -> NDArray[np.int64]:
        if self.settings.rate is not None:
            times_s = np.arange(len(clip.joints)) / self.settings.rate
        else:
            assert clip.times_s is not None
            times_s = clip.times_s
        times_ns: NDArray[np.int64] = np.round(times_s * 1e9).astype(np.int64)
        return times_ns

    def _period_s(self, clip: SkeletonClip) -> float | None:
        """Return the interval between frames, None where it varies by more than a hundredth."""
        if self.settings.rate is not None:
            return 1 / self.settings.rate
        steps_ns = np.diff(self._times_ns(clip))
        if not len(steps_ns):
            return None
        middle_ns = float(np.median(steps_ns))
        regular = (np.abs(steps_ns - middle_ns) <= _REGULAR * middle_ns).all()
        return round(middle_ns) / 1e9 if regular else None

    def _play(self, clips: list[SkeletonClip]) -> Iterator[Timed]:
        begin_ns = origin_ns = int(self._times_ns(clips[0])[0])
        segment = 0
        for _ in laps(self.settings.loop):
            for clip in clips:
                times_ns = self._times_ns(clip)
                times_ns += begin_ns - times_ns[0]
                meta = {"clip": clip.name} | ({} if clip.label is None else {"label": clip.label})
                for at_ns, joints in zip(times_ns.tolist(), clip.joints, strict=True):
                    yield (
                        at_ns - origin_ns,
                        Packet("skeleton", joints, 0, at_ns, at_ns, segment=segment, meta=meta),
                    )
                steps_ns = np.diff(times_ns)
                step_ns = (
                    int(np.median(steps_ns))
                    if len(steps_ns)
                    else to_ns(1 / (self.settings.rate or 30))
                )
                begin_ns = int(times_ns[-1]) + step_ns
                segment += 1
