"""The `overlay` node: a video with what was found drawn into it."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import to_ns
from stream.vision.drawing import Caption, Found, Painter
from stream.vision.frames import Frame, check_frames
from stream.vision.layouts import Layout, layout
from stream.vision.opencv import load_cv2
from stream.vision.page import PictureServer, check_port
from stream.vision.video_writer import VideoWriter

_HOLD_NS = to_ns(0.5)
_HELD_FRAMES = 32
_KEPT = 64
# For how long what was found is still shown with later frames.
_VALID_NS = {"keypoints": to_ns(0.25), "label": to_ns(1.0)}
_ASSUMED_HZ = 30.0
_SMOOTHING = 0.1
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


class _Layer:
    """One of the streams that are drawn: what of it came last, and how old that was."""

    def __init__(self, name: str, spec: StreamSpec) -> None:
        self.name = name
        self.spec = spec
        self.role = _role(name, spec)
        self.layout = layout(str(spec.meta["layout"])) if self.role == "keypoints" else None
        self.packets: deque[Packet] = deque(maxlen=_KEPT)
        self.latency_ms: float | None = None
        # A label holds until the next one, a period later.
        period_s = (self.role == "label" and spec.period_s) or 0.0
        self._holds_ns = max(1, to_ns(period_s))

    def add(self, packet: Packet) -> None:
        if self.packets and packet.source_ns < self.packets[-1].source_ns:
            self.packets.clear()
        self.packets.append(packet)
        age_ms = (time.monotonic_ns() - packet.t_ns) / 1e6
        before = age_ms if self.latency_ms is None else self.latency_ms
        self.latency_ms = before + _SMOOTHING * (age_ms - before)

    def reached(self, source_ns: int) -> bool:
        return bool(self.packets) and self.packets[-1].source_ns + self._holds_ns > source_ns

    def says_nobody(self, source_ns: int) -> bool:
        packet = self.at(source_ns) if self.role == "keypoints" else None
        return packet is not None and packet.meta.get("state") == "none"

    def at(self, source_ns: int) -> Packet | None:
        """Return what holds at a time: the newest packet that is not newer, nor too old."""
        for packet in reversed(self.packets):
            if packet.source_ns <= source_ns:
                fresh = source_ns - packet.source_ns <= _VALID_NS[self.role]
                return packet if fresh else None
        return None


class Overlay(Node[OverlaySettings]):
    """Draw skeletons, the best label and latencies into frames, and write or show them.

    To a file, to a window, or to a page on this host.

    It takes one stream of frames, any number of `keypoints`, and at most one stream of labels:
    float probabilities, one for each name of the stream; `label` and `probability` in a packet's
    `meta` are shown instead of the most probable one. What belongs together is found by source
    time: a frame waits, half a second at most, until the other streams have come as far. The
    latencies are those from the acquisition of a frame until what was found in it arrives here.

    The file lasts as long as the frames took on the clock of their source. An .mp4 can be read
    once the run has ended; an .mkv also after a kill.
    """

    use = "overlay"
    summary = "a video with skeleton, label and latency drawn into it"
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
        Painter(*check_frames(self.use, frames[0], inputs[frames[0]]))
        roles = [_role(name, spec) for name, spec in inputs.items()]
        if roles.count("label") > 1:
            raise ConfigError("'overlay' shows at most one stream of labels, found several.")
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
        (self._stream,) = (n for n, spec in context.inputs.items() if spec.kind == "frame")
        spec = context.inputs[self._stream]
        self._layers = {
            name: _Layer(name, other)
            for name, other in context.inputs.items()
            if name != self._stream
        }
        self._painter = Painter(*check_frames(self.use, self._stream, spec))
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
            rate_hz = _ASSUMED_HZ if spec.period_s is None else 1 / spec.period_s
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

    def _ready(self, source_ns: int) -> bool:
        """Tell whether all is there that was found at a time; nobody does nothing."""
        layers = list(self._layers.values())
        if any(layer.says_nobody(source_ns) for layer in layers):
            layers = [layer for layer in layers if layer.role != "label"]
        return all(layer.reached(source_ns) for layer in layers)

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
        if writer.cut_s:
            note("silence_cut_s", round(writer.cut_s, 3))

    def _draw(self, held: _Held, ready: bool) -> None:
        if not ready:
            notes = self.context.counters.notes
            self.context.counters.note("drawn_unmatched", notes.get("drawn_unmatched", 0) + 1)
        found, nobody = [], False
        label, probability = "", 0.0
        remarks = []
        for layer in self._layers.values():
            packet = layer.at(held.source_ns)
            if layer.latency_ms is not None:
                remarks.append(f"{layer.name} {layer.latency_ms:.0f} ms")
            if packet is None:
                continue
            if layer.layout is not None:
                found += _finite(layer.layout, packet)
                nobody |= layer.says_nobody(held.source_ns)
            else:
                label, probability = best(layer.spec.names, packet)
        seconds = held.source_ns / 1e9
        note = f"{seconds // 60:.0f}:{seconds % 60:04.1f}"
        if nobody:
            # Whatever was said last was said of somebody who has left.
            label, note = "", "nobody in view"
        caption = Caption(label, probability, tuple(remarks), note)
        picture = self._painter.draw(held.frame, found, caption)
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


def _finite(which: Layout, packet: Packet) -> list[Found]:
    """Return the person of a packet, or the hands, without those that are not in view."""
    data = packet.data
    sides = ("left_", "right_") if data.ndim == 3 else ("",)
    return [
        Found(which, joints, side)
        for side, joints in zip(sides, data.reshape(-1, *data.shape[-2:]), strict=True)
        if np.isfinite(joints).all()
    ]


def best(names: tuple[str, ...], packet: Packet) -> tuple[str, float]:
    """Return the label to show and its probability: as `meta` says, else the most probable one."""
    if {"label", "probability"} <= packet.meta.keys():
        return str(packet.meta["label"]), float(packet.meta["probability"])
    if not np.isfinite(packet.data).any():
        return "unknown", 0.0
    likely = int(np.nanargmax(packet.data))
    label = str(packet.meta.get("label", names[likely]))
    return label, float(packet.data[names.index(label) if label in names else likely])


def _role(name: str, spec: StreamSpec) -> str:
    """Return as what a stream is drawn: `frame`, `keypoints` or `label`.

    Raises
    ------
    ConfigError
        It can be drawn as none of them.
    """
    if spec.kind in ("frame", "keypoints"):
        return spec.kind
    if len(spec.shape) == 1 and spec.dtype.startswith("float") and spec.shape[0] == len(spec.names):
        return "label"
    hint = "; its main stream has pixels" if spec.kind == "skeleton" else ""
    raise ConfigError(
        f"'{name}' carries {spec.kind} of shape {list(spec.shape)}, which 'overlay' cannot draw: it"
        f" takes frames, keypoints in pixels, and probabilities of named labels{hint}."
    )


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
