"""`keyboard.rectify`: from frames and where the keys are in them to strips of keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

from stream.errors import ConfigError
from stream.music.keyboard import FOUND, KeyGrid, check_keyboard
from stream.music.piano.strip import (
    CHANNELS,
    STRIP_HEIGHT,
    STRIP_WIDTH,
    Rectifier,
    middle_of,
    side_of,
    with_side,
)
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.vision.frames import check_frames


class KeyboardRectify(Node[NodeSettings]):
    """Lay the keys of each frame flat, with 12 pixels for each white key.

    It takes a stream of frames and the stream of `keyboard.find` on them. The strips, uint8
    (56, 624, 4), have the times of their frames. Frames that come while no keyboard is found lead
    to nothing and are counted as `no_keyboard`. A new segment begins with a segment of the frames
    and with another grid, but not while one is followed.
    """

    use = "keyboard.rectify"
    summary = "keys of a picture laid flat, as a model of keys takes them"
    accepts: ClassVar[frozenset[str]] = frozenset({"frame", "keyboard"})
    max_inputs = 2

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of strips.

        Raises
        ------
        ConfigError
            There is not one stream of frames and one of their keyboard, or they do not fit.
        MissingExtraError
            OpenCV is not installed.
        """
        by_kind = {spec.kind: (name, spec) for name, spec in inputs.items()}
        if len(inputs) != 2 or set(by_kind) != {"frame", "keyboard"}:
            raise ConfigError(
                f"'{self.use}' takes frames and where 'keyboard.find' found the keys in them, such"
                f" as from: [camera, grid]; found {', '.join(inputs) or 'nothing'}."
            )
        name, frames = by_kind["frame"]
        size = check_frames(self.use, name, frames)
        other, keyboard = by_kind["keyboard"]
        if (found := check_keyboard(self.use, other, keyboard)) != size:
            raise ConfigError(
                f"'{other}' tells where keys are in frames of {found[1]}x{found[0]}, those of"
                f" '{name}' have {size[1]}x{size[0]}; take the frames that it was found in."
            )
        return {"": strip_spec(frames.period_s)}

    def open(self, context: Context) -> None:
        """Begin without a keyboard."""
        super().open(context)
        (self._size,) = (
            check_frames(self.use, name, spec)
            for name, spec in context.inputs.items()
            if spec.kind == "frame"
        )
        self._rectifier: Rectifier | None = None
        self._followed: int | None = None
        self._frames: int | None = None
        self._segment = -1

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Take where the keys are, or rectify a frame."""
        if packet.kind == "keyboard":
            self._take(packet)
            return ()
        if packet.segment != self._frames:
            self._frames = packet.segment
            self._segment += 1
        if self._rectifier is None:
            self.context.counters.drop("no_keyboard")
            return ()
        strip = packet.derive("strip", with_side(self._rectifier(packet.data), self._side))
        strip.segment = self._segment
        return [strip]

    def _take(self, packet: Packet) -> None:
        if packet.meta.get("state") != FOUND:
            self._rectifier = None
            return
        grid: KeyGrid = packet.data
        if packet.segment != self._followed or self._rectifier is None:
            self._followed = packet.segment
            self._segment += 1
        self._rectifier = Rectifier(grid)
        self._side = side_of(middle_of(grid, *self._size))


def strip_spec(period_s: float | None) -> StreamSpec:
    """Return the specification of a stream of strips."""
    return StreamSpec(
        "strip", (STRIP_HEIGHT, STRIP_WIDTH, len(CHANNELS)), "uint8", CHANNELS, "", period_s
    )
