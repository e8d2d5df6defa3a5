"""The `overlay` node: a video with what was found drawn into it."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import to_ns
from stream.vision.drawing import Painter, Scene
from stream.vision.frames import Frame, check_frames
from stream.vision.layers import Notes, make_layer
from stream.vision.opencv import load_cv2
from stream.vision.page import PictureServer, check_port
from stream.vision.video_writer import VideoWriter

_HOLD_NS = to_ns(0.5)
_HELD_FRAMES = 32
_ASSUMED_HZ = 30.0
_ESCAPE = 27


class OverlaySettings(NodeSettings):
    """Settings of `overlay`."""

    file: Path | None = Field(
        None, description="video to write, .mp4 or .mkv; by default one in the folder of the run"
    )
    window: bool = Field(
        False, description="show it in a window; a file is then written only where 'file' says so"
    )
    page: int | None = Field(
        None, ge=1024, le=65535,
        description="show it in a browser on this host, at http://127.0.0.1:PAGE/, such as 8765; a"
        " file is then written only where 'file' says so",
    )  # fmt: skip


class _Held(NamedTuple):
    source_ns: int
    frame: Frame


class Overlay(Node[OverlaySettings]):
    """Draw what was found into frames, with latencies, and write or show them.

    To a file, to a window, or to a page on this host.

    It takes one stream of frames, any number of `keypoints`, and at most one stream each of labels,
    of keyboards and of notes. Labels are float probabilities, one for each name of the stream;
    `label` and `probability` in a packet's `meta` are shown instead of the most probable one. With
    notes, a piano roll of the last seconds stands above the frame. What belongs together is found
    by source time: a frame waits, half a second at most, until the other streams have come as far.
    The latencies are those from the acquisition of a frame until what was found in it arrives here.

    The file lasts as long as the frames took on the clock of their source. An .mp4 can be read
    once the run has ended; an .mkv also after a kill.
    """

    use = "overlay"
    summary = "a video with skeleton, label, keys, notes and latency drawn into it"
    Settings = OverlaySettings
    accepts: ClassVar[frozenset[str]] = frozenset({"*"})
    max_inputs = None

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check the streams and that the file can be written, or the window shown.

        Raises
        ------
        ConfigError
            There is not exactly one stream of frames; a stream cannot be drawn; the file exists;
            there is no display; the port of the page is taken.
        MissingExtraError
            OpenCV is not installed.
        """
        frames = [name for name, spec in inputs.items() if spec.kind == "frame"]
        if len(frames) != 1:
            raise ConfigError(
                f"'overlay' draws into exactly one stream of frames, found {len(frames)}"
                f" ({', '.join(frames) or 'none'})."
            )
        self._paint(Context(self.use, inputs, Path()))
        if self.settings.file is not None:
            _check_target(self.settings.file)
        if self.settings.page is not None:
            check_port(self.settings.page)
        if self.settings.window and not _has_display():
            raise ConfigError(
                "window: there is no display here (neither DISPLAY nor WAYLAND_DISPLAY is set);"
                " write a 'file' instead."
            )
        return {}

    def writes(self) -> tuple[Path, ...]:
        """Return the file, when it is known beforehand."""
        return () if self.settings.file is None else (self.settings.file,)

    def open(self, context: Context) -> None:
        """Begin the file, the window, the page.

        Raises
        ------
        ConfigError
            The file exists by now, or the port of the page is taken.
        RecordingError
            The file cannot be written.
        """
        super().open(context)
        self._paint(context)
        self._held: deque[_Held] = deque()
        self._writer: VideoWriter | None = None
        self._window = ""
        self._page: PictureServer | None = None
        s = self.settings
        if s.window:
            self._window = f"{context.pipeline or 'innervate'}: {context.name}"
        if s.page is not None:
            self._page = PictureServer(s.page)
            context.counters.note("page", self._page.address)
        if s.file is not None or not (s.window or s.page):
            path = s.file or context.run_dir / _default_name(context)
            _check_target(path)
            period_s = context.inputs[self._stream].period_s
            rate_hz = _ASSUMED_HZ if period_s is None else 1 / period_s
            self._writer = VideoWriter(path, self._painter.size, rate_hz)
            context.counters.note("file", str(path))

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Take a frame or what was found, and draw every frame for which all is there."""
        if stream == self._stream:
            # A copy, since the memory of a frame goes back to whoever sent it.
            self._held.append(_Held(packet.source_ns, packet.data.copy()))
        else:
            self._layers[stream].add(packet)
        while self._held:
            oldest, newest = self._held[0], self._held[-1]
            waited = newest.source_ns - oldest.source_ns
            ready = self._ready(oldest.source_ns)
            if not (ready or not 0 <= waited <= _HOLD_NS or len(self._held) > _HELD_FRAMES):
                break
            self._draw(self._held.popleft(), ready)
        return ()

    def _paint(self, context: Context) -> None:
        """Make what draws these streams, or say why they cannot be drawn."""
        (self._stream,) = (n for n, spec in context.inputs.items() if spec.kind == "frame")
        size = check_frames(self.use, self._stream, context.inputs[self._stream])
        self._layers = {
            name: make_layer(name, spec, context.counters, size)
            for name, spec in context.inputs.items()
            if name != self._stream
        }
        classes = [type(layer) for layer in self._layers.values()]
        for cls in classes:
            if cls.alone and classes.count(cls) > 1:
                raise ConfigError(
                    f"'overlay' shows at most one stream of {cls.kind}, found several."
                )
        self._painter = Painter(*size, roll=Notes in classes)

    def _ready(self, source_ns: int) -> bool:
        """Tell whether all is there that was found at a time."""
        layers = self._layers.values()
        excused = {layer.excuses(source_ns) for layer in layers}
        return all(layer.reached(source_ns) for layer in layers if type(layer) not in excused)

    def finish(self) -> Iterable[Packet]:
        """Draw the frames that still wait."""
        while self._held:
            self._draw(self._held.popleft(), True)
        return ()

    def close(self) -> None:
        """Finish the file, and close the window and the page.

        Raises
        ------
        RecordingError
            The file does not hold all that was written to it.
        """
        if getattr(self, "_window", ""):
            self._cv2().destroyAllWindows()
        if (page := getattr(self, "_page", None)) is not None:
            page.close()
        writer = getattr(self, "_writer", None)
        if writer is None:
            return
        self._writer = None
        writer.close()
        note = self.context.counters.note
        note("frames_written", writer.written)
        note("frames_repeated", writer.repeated)
        note("frames_merged", writer.merged)
        self.context.counters.note_rare(silence_cut_s=round(writer.cut_s, 3))

    def _draw(self, held: _Held, ready: bool) -> None:
        if not ready:
            self.context.counters.count("drawn_unmatched")
        scene = Scene(held.source_ns)
        for layer in self._layers.values():
            if layer.latency_ms is not None:
                scene.remarks.append(f"{layer.name} {layer.latency_ms:.0f} ms")
            layer.show(scene, held.source_ns)
        picture = self._painter.draw(held.frame, scene)
        if self._writer is not None:
            self._writer.write(picture, held.source_ns)
        if self._page is not None:
            self._page.show(picture)
        if self._window:
            self._show(picture)

    def _show(self, picture: Frame) -> None:
        cv2 = self._cv2()
        cv2.imshow(self._window, picture)
        closed = cv2.waitKey(1) == _ESCAPE
        if closed or cv2.getWindowProperty(self._window, cv2.WND_PROP_VISIBLE) < 1:
            cv2.destroyAllWindows()
            self._window = ""
            self.context.counters.note("window_closed", True)

    def _cv2(self) -> Any:
        return load_cv2("The node 'overlay'")


def _check_target(file: Path) -> None:
    if file.suffix not in (".mp4", ".mkv"):
        raise ConfigError(f"a video is an .mp4 or .mkv file, '{file.name}' is neither.")
    if file.exists():
        raise ConfigError(
            f"{file} exists and is not overwritten; choose another name, or leave out 'file' to"
            " get a new one for each run."
        )
    if not file.parent.is_dir():
        raise ConfigError(f"the folder {file.parent} is not there; create it first.")


def _has_display() -> bool:
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _default_name(context: Context) -> str:
    parts = (context.pipeline or "run", context.name, f"{datetime.now():%Y%m%d-%H%M%S}")
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts)) + ".mp4"
