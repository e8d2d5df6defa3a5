"""`video`: a video file sent as if it happened now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import Field

from stream.errors import ConfigError, RecordingError
from stream.files import file_sha256
from stream.node import Context, StreamSpec
from stream.paced import Loop, PacedSettings, PacedSource, Timed, laps
from stream.units import Seconds, format_seconds, to_ns
from stream.vision.frames import frame_packet, frame_spec
from stream.vision.video_file import VideoFile


class VideoSettings(PacedSettings):
    """Settings of `video`."""

    file: Path = Field(description="video that OpenCV can read, such as .mp4, .mkv or .avi")
    start: Seconds = Field(0.0, ge=0, description="begin here on the clock of the file")
    loop: Loop = False


class Video(PacedSource[VideoSettings]):
    """Stream the frames of a file at the times at which they were taken.

    `source_ns` is the file's own time of a frame, which need not be regular. In every further lap
    the clock goes on, and a new segment begins.
    """

    use = "video"
    summary = "frames of a video file, in real time or at any speed"
    Settings = VideoSettings
    # Many large frames would fill the memory and keep the process busy.
    batch = 1

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return what the file holds.

        Raises
        ------
        RecordingError
            The file cannot be read.
        ConfigError
            It ends before `start`.
        """
        s = self.settings
        info = VideoFile(s.file).info
        if s.start >= info.duration_s:
            raise ConfigError(
                f"start: {format_seconds(s.start)} is beyond the end of {s.file}, which is"
                f" {info.duration_s:g} s long."
            )
        about = {"recording": s.file.stem, "sha256": file_sha256(s.file)}
        return {"": frame_spec(info.height, info.width, info.period_s, about)}

    def open(self, context: Context) -> None:
        """Open the file and decode the first frame."""
        super().open(context)
        self._file = VideoFile(self.settings.file)
        self.pace(self._play())

    def _play(self) -> Iterator[Timed]:
        file, start_s = self._file, self.settings.start
        shift_ns = 0
        for lap in laps(self.settings.loop):
            first_ns = last_ns = before_ns = -1
            for time_ns, frame in file.frames(start_s):
                if first_ns < 0:
                    first_ns = time_ns
                    if lap == 0:
                        origin_ns = time_ns
                before_ns, last_ns = last_ns, time_ns
                at_ns = time_ns + shift_ns
                yield at_ns - origin_ns, frame_packet(frame, 0, at_ns, lap)
            self._note()
            if first_ns < 0:
                raise RecordingError(
                    f"{file.path} has no frame from {format_seconds(start_s)} on that can be"
                    " decoded."
                )
            period_s = file.info.period_s
            step_ns = last_ns - before_ns if before_ns >= 0 else to_ns(1 / (file.info.rate_hz or 1))
            shift_ns += last_ns - first_ns + (to_ns(period_s) if period_s else step_ns)

    def _note(self) -> None:
        self.context.counters.note_rare(
            missing_frames=self._file.missing, counted_times=self._file.counted_times
        )
