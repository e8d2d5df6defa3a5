"""`keyboard.rectify`: from frames and where the keys are in them to strips of keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.music.keyboard import CENTRES_U, FOUND, KEYS, KeyGrid, check_keyboard, no_grid
from stream.music.piano.steady import Steady
from stream.music.piano.strip import (
    CHANNELS,
    STRIP_HEIGHT,
    STRIP_WIDTH,
    Rectifier,
    apart_px,
    middle_of,
    side_of,
    with_side,
)
from stream.node import GAVE_NOTHING, Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.vision.frames import check_frames

COVERED = "covered"
"""Key in `meta` of a strip with the keys, 0 to 87, that something lies over, if there are any."""

_ASSUMED = (
    "no end of the keyboard is in view, so middle C is taken to be near the middle; if notes are"
    " octaves off, give 'lowest' to 'keyboard.find'."
)

_WHITE_OF = CENTRES_U.astype(int)


class KeyboardRectify(Node[NodeSettings]):
    """Lay the keys of each frame flat, with 12 pixels for each white key.

    It takes a stream of frames and the stream of `keyboard.find` on them. The strips, uint8
    (56, 624, 4), have the times of their frames. Frames that come while no keyboard is found lead
    to nothing and are counted as `no_keyboard`. A new segment begins with a segment of the frames
    and with another grid, but not while one is followed. The report says when no keyboard was ever
    found, and when it is not seen which octave is which.
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
        self._grid: KeyGrid = no_grid()
        self._side = side_of(0.0)
        self._steady = Steady()
        self._lost = False
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
            self._steady = Steady()
        if self._rectifier is None:
            if self._lost:
                # Nothing is in view: what sounds ends now, and not when a sink wonders.
                self._lost = False
                self._segment += 1
                blank = np.zeros((STRIP_HEIGHT, STRIP_WIDTH, len(CHANNELS)), np.uint8)
                strip = packet.derive("strip", blank)
                strip.segment = self._segment
                return [strip]
            self.context.counters.drop("no_keyboard")
            return ()
        colours = self._steady(self._rectifier, packet.data)
        covered = np.flatnonzero(self._steady.covered[_WHITE_OF]).tolist()
        self._note()
        meta = {COVERED: covered} if covered else {}
        strip = packet.derive("strip", with_side(colours, self._side), meta=meta)
        strip.segment = self._segment
        return [strip]

    def finish(self) -> Iterable[Packet]:
        """Say that no keyboard was found, if none was."""
        frames = self.context.counters.dropped.get("no_keyboard", 0)
        if self._followed is None and frames:
            self.context.counters.note(
                GAVE_NOTHING,
                f"no keyboard was found, frames looked at: {frames}; `innervate keyboard` shows"
                " what is seen in a picture or a video.",
            )
        return ()

    def _note(self) -> None:
        count, steady = self.context.counters.count, self._steady
        for name, there in (
            ("steadied_frames", steady.moving), ("relit_frames", steady.relit),
            ("covered_frames", bool(steady.covered.any())),
        ):  # fmt: skip
            if there:
                count(name)

    def _take(self, packet: Packet) -> None:
        if packet.meta.get("state") != FOUND:
            self._lost = self._lost or self._rectifier is not None
            self._rectifier = None
            return
        grid: KeyGrid = packet.data
        if packet.segment != self._followed or self._rectifier is None:
            self._followed = packet.segment
            assumed = packet.meta.get("octave") == "assumed"
            self.context.counters.note_rare(trouble=_ASSUMED if assumed else "")
            self._segment += 1
            self._steady = Steady()
        else:
            apart = apart_px(self._grid, grid)
            if self._steady.holds(*apart):
                return
            self._steady.moved(*apart)
        self._lost = False
        self._grid = grid
        self._rectifier = Rectifier(grid)
        self._side = side_of(middle_of(grid, *self._size))


def covered_keys(strip: Packet) -> NDArray[np.bool_]:
    """Return (88,) which keys are covered in the packet of a strip."""
    covered = np.zeros(KEYS, bool)
    covered[strip.meta.get(COVERED, [])] = True
    return covered


def strip_spec(period_s: float | None) -> StreamSpec:
    """Return the specification of a stream of strips."""
    return StreamSpec(
        "strip", (STRIP_HEIGHT, STRIP_WIDTH, len(CHANNELS)), "uint8", CHANNELS, "", period_s
    )
