"""What `innervate collect` records with: a sink for frames and notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, TextIO

from stream.errors import ConfigError
from stream.music.collect.collection import EVENTS, EVENTS_HEAD, FRAMES, FRAMES_HEAD
from stream.music.notes import NOTE_ON, check_notes
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.vision.frames import check_frames
from stream.vision.video_writer import VideoWriter

VIDEO = "video.mkv"
_ASSUMED_HZ = 30.0


class TakeSettings(NodeSettings):
    """Settings of `Take`."""

    folder: Path


class Take(Node[TakeSettings]):
    """Write every frame and every message, each with its time on the host clock.

    The video has one frame for each that came, at the nominal rate, whenever it came; `frames.csv`
    has the times. All can be read after a kill.
    """

    use = "take"
    summary = "frames and notes for a training set"
    Settings = TakeSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"frame", "notes"})
    max_inputs = 2
    delivery = "lossless"

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check the streams.

        Raises
        ------
        ConfigError
            They are not one of frames and one of notes.
        """
        if sorted(spec.kind for spec in inputs.values()) != ["frame", "notes"]:
            raise ConfigError(f"a set is one stream of frames and one of notes, found {[*inputs]}.")
        for name, spec in inputs.items():
            if spec.kind == "frame":
                check_frames(self.use, name, spec)
            else:
                check_notes(self.use, name, spec)
        return {}

    def open(self, context: Context) -> None:
        """Begin the files."""
        super().open(context)
        (spec,) = (spec for spec in context.inputs.values() if spec.kind == "frame")
        height, width = check_frames(self.use, "frames", spec)
        folder = self.settings.folder
        self._rate_hz = _ASSUMED_HZ if spec.period_s is None else 1 / spec.period_s
        # What keys do in a frame must not be seen only in those that follow.
        self._writer = VideoWriter(folder / VIDEO, (width, height), self._rate_hz, "MJPG")
        self._frames = _begin(folder / FRAMES, FRAMES_HEAD)
        self._events = _begin(folder / EVENTS, EVENTS_HEAD)
        self._taken = self._notes = 0

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Write a frame or messages."""
        if packet.kind == "frame":
            # The place in the video is the number of the frame: the times are in the table.
            self._writer.write(packet.data, round(self._taken * 1e9 / self._rate_hz))
            self._frames.write(f"{packet.t_ns}\n")
            self._taken += 1
            self.context.counters.note("frames", self._taken)
            return ()
        for status, number, value in packet.data.tolist():
            self._events.write(f"{packet.t_ns},{status},{number},{value}\n")
            self._notes += status & 0xF0 == NOTE_ON and value > 0
        self.context.counters.note("notes", self._notes)
        return ()

    def close(self) -> None:
        """Finish the files.

        Raises
        ------
        RecordingError
            The video does not hold all frames.
        """
        if not hasattr(self, "_events"):
            return
        self._frames.close()
        self._events.close()
        self._writer.close()


def _begin(path: Path, head: str) -> TextIO:
    # Line by line, so that a kill takes nothing that was written.
    file = path.open("x", buffering=1)
    file.write(f"{head}\n")
    return file
