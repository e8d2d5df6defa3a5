"""What `overlay` draws over frames: one class for each kind of stream that it takes."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar

import numpy as np

from stream.errors import ConfigError
from stream.music.heard import Heard, Listener
from stream.music.keyboard import HIGHEST_PITCH, LOWEST_PITCH, check_keyboard
from stream.music.notes import are_events, check_notes
from stream.music.roll import SHOWN_NS
from stream.node import Counters, StreamSpec
from stream.packet import Packet
from stream.units import to_ns
from stream.vision.drawing import Found, Scene
from stream.vision.layouts import layout

_KEPT = 64
_SMOOTHING = 0.1


class Layer(ABC):
    """One of the streams that are drawn: what of it came last, and how old that was.

    Attributes
    ----------
    name
        The name of the stream.
    latency_ms
        Time from acquisition until the packets arrive here, smoothed; None before the first.
    """

    kind: ClassVar[str]
    """What of a layer is told in messages."""

    alone: ClassVar[bool] = True
    """Whether an overlay can have only one of this class."""

    valid_ns: ClassVar[int | None] = None
    """For how long what was found is still shown with later frames; None until the next comes."""

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        self.name = name
        self.spec = spec
        self.counters = counters
        self.latency_ms: float | None = None
        self._packets: deque[Packet] = deque(maxlen=_KEPT)

    def add(self, packet: Packet) -> None:
        """Take the next packet of the stream."""
        if self._packets and packet.source_ns < self._packets[-1].source_ns:
            self._packets.clear()
        self._packets.append(packet)
        age_ms = (time.monotonic_ns() - packet.t_ns) / 1e6
        before = age_ms if self.latency_ms is None else self.latency_ms
        self.latency_ms = before + _SMOOTHING * (age_ms - before)

    def reached(self, source_ns: int) -> bool:
        """Tell whether all has come that belongs to a frame of this time."""
        return bool(self._packets) and self._packets[-1].source_ns >= source_ns

    def excuses(self, source_ns: int) -> type[Layer] | None:
        """Return the layers that may have nothing to say at a time, since this one found none."""
        return None

    @abstractmethod
    def show(self, scene: Scene, source_ns: int) -> None:
        """Add to a scene what was found at a time."""

    def _at(self, source_ns: int) -> Packet | None:
        """Return what holds at a time: the newest packet that is not newer, nor too old."""
        for packet in reversed(self._packets):
            if packet.source_ns <= source_ns:
                fresh = self.valid_ns is None or source_ns - packet.source_ns <= self.valid_ns
                return packet if fresh else None
        return None


class Label(Layer):
    """Probabilities of named classes. A label holds until the next one is due, a period later."""

    kind = "labels"
    valid_ns = to_ns(1.0)

    def reached(self, source_ns: int) -> bool:
        """Tell whether the label of this time has come."""
        holds_ns = to_ns(self.spec.period_s or 0.0)
        return super().reached(source_ns - max(0, holds_ns - 1))

    def show(self, scene: Scene, source_ns: int) -> None:
        """Say which class it is."""
        if packet := self._at(source_ns):
            scene.label, scene.probability = best(self.spec.names, packet)


class Keypoints(Layer):
    """The joints of a person, or of hands."""

    kind = "keypoints"
    alone = False
    valid_ns = to_ns(0.25)

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._layout = layout(str(spec.meta["layout"]))

    def excuses(self, source_ns: int) -> type[Layer] | None:
        """Return labels when there is nobody: nobody does nothing."""
        packet = self._at(source_ns)
        return Label if packet is not None and packet.meta.get("state") == "none" else None

    def show(self, scene: Scene, source_ns: int) -> None:
        """Add the person of a packet, or the hands, without those that are not in view."""
        packet = self._at(source_ns)
        if packet is None:
            return
        data = packet.data
        sides = ("left_", "right_") if data.ndim == 3 else ("",)
        scene.found += [
            Found(self._layout, joints, side)
            for side, joints in zip(sides, data.reshape(-1, *data.shape[-2:]), strict=True)
            if np.isfinite(joints).all()
        ]
        scene.nobody |= self.excuses(source_ns) is Label


class Keyboard(Layer):
    """Where the keys are. Frames do not wait for that, since it is found seldom and slowly."""

    kind = "keyboards"

    def reached(self, source_ns: int) -> bool:
        """Always true: the last grid holds."""
        return True

    def excuses(self, source_ns: int) -> type[Layer] | None:
        """Return notes as long as there is no keyboard from which to read them."""
        packet = self._at(source_ns)
        return Notes if packet is None or packet.meta.get("state") == "none" else None

    def show(self, scene: Scene, source_ns: int) -> None:
        """Add the grid, or say that there is none."""
        packet = self._at(source_ns)
        if packet is None or self.excuses(source_ns) is not None:
            scene.no_keyboard = True
        else:
            scene.grid = packet.data


class Notes(Layer):
    """Notes, from which key goes down to when the pedal lets them fall silent."""

    kind = "notes"

    def __init__(self, name: str, spec: StreamSpec, counters: Counters) -> None:
        super().__init__(name, spec, counters)
        self._listener = Listener()
        self._segment = 0

    def add(self, packet: Packet) -> None:
        """Take the next packet; a new segment, or a clock that goes back, begins in silence."""
        before = self._packets[-1] if self._packets else packet
        super().add(packet)
        if packet.source_ns < before.source_ns:
            self._listener = Listener()
        elif packet.segment != before.segment:
            self._listener.end(packet.source_ns)
        if not are_events(packet.data):
            self.counters.drop("no_midi_messages")
            return
        known = len(self._listener.notes)
        self._listener.add(packet.data, packet.source_ns)
        for note in self._listener.notes[known:]:
            if not LOWEST_PITCH <= note.pitch <= HIGHEST_PITCH:
                self.counters.drop("note_without_key")
        # Frames of an earlier time may still wait.
        self._listener.forget(packet.source_ns - 2 * SHOWN_NS)

    def show(self, scene: Scene, source_ns: int) -> None:
        """Add the notes of the last seconds."""
        scene.notes = list[Heard](self._listener.notes)


def make_layer(name: str, spec: StreamSpec, counters: Counters, size: tuple[int, int]) -> Layer:
    """Return the layer as which a stream is drawn into frames of that height and width.

    Raises
    ------
    ConfigError
        It can be drawn as none, or belongs to frames of another size.
    """
    if spec.kind == "keypoints":
        return Keypoints(name, spec, counters)
    if spec.kind == "keyboard":
        found = check_keyboard("overlay", name, spec)
        if found != size:
            raise ConfigError(
                f"'{name}' tells where keys are in frames of {found[1]}x{found[0]}, 'overlay' gets"
                f" frames of {size[1]}x{size[0]}; take both from the same stream of frames."
            )
        return Keyboard(name, spec, counters)
    if spec.kind == "notes":
        check_notes("overlay", name, spec)
        return Notes(name, spec, counters)
    if len(spec.shape) == 1 and spec.dtype.startswith("float") and spec.shape[0] == len(spec.names):
        return Label(name, spec, counters)
    hint = "; its main stream has pixels" if spec.kind == "skeleton" else ""
    raise ConfigError(
        f"'{name}' carries {spec.kind} of shape {list(spec.shape)}, which 'overlay' cannot draw: it"
        " takes frames, keypoints in pixels, keyboards, notes, and probabilities of named"
        f" labels{hint}."
    )


def best(names: tuple[str, ...], packet: Packet) -> tuple[str, float]:
    """Return the label to show and its probability: as `meta` says, else the most probable one."""
    if {"label", "probability"} <= packet.meta.keys():
        return str(packet.meta["label"]), float(packet.meta["probability"])
    if not np.isfinite(packet.data).any():
        return "unknown", 0.0
    likely = int(np.nanargmax(packet.data))
    label = str(packet.meta.get("label", names[likely]))
    return label, float(packet.data[names.index(label) if label in names else likely])
