"""The `keyboard.find` node: where the keys of a piano are in the frames of a camera."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from stream.errors import ConfigError
from stream.music.finder.drawing import draw_grid
from stream.music.finder.finding import (
    SURE,
    Keyboard,
    find_keyboard,
    keyboard_at,
    median_of_five,
    to_work,
)
from stream.music.finder.layouts import SIZES, check_layout
from stream.music.finder.plane import Floats
from stream.music.finder.seeds import WORK_PX
from stream.music.finder.tracking import Tracker, same_place
from stream.music.keyboard import FOUND, NONE, KeyGrid, keyboard_spec, no_grid
from stream.node import TROUBLE, Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import to_ns
from stream.vision.frames import Frame, check_frames
from stream.vision.opencv import load_cv2

# Frames whose median is searched, and how far apart they are: hands move on meanwhile.
_FRAMES = 5
_APART_NS = to_ns(0.1)
# How often a keyboard that was found is looked at again.
_LOOK_NS = to_ns(0.2)
# For how long it may be covered, and how often looked for in vain, before it counts as gone: on a
# busy machine looks are rare.
_GONE_NS = to_ns(1.0)
_GONE_LOOKS = 3
# A keyboard of the number of keys that was named is taken without trying others when it is so sure,
# and not when another one is surer by so much.
_CERTAIN, _MORE = 0.8, 0.15
# How long to wait after a search in vain: twice as long each time, between these.
_WAIT_NS = (to_ns(0.5), to_ns(2.0))


class KeyboardFindSettings(NodeSettings):
    """Settings of `keyboard.find`."""

    keys: int | None = Field(
        None, description="how many keys the keyboard has, if not seen: 88, 76, 61, 49, 37 or 25"
    )
    lowest: str | None = Field(
        None,
        description="name of the first white key in view from the player's left, such as C2; with"
        " 'keys', of the lowest key of the keyboard",
    )
    corners: tuple[tuple[float, float], ...] | None = Field(
        None,
        description="x, y in pixels of the corners of all keys, for keyboards that are not found by"
        " themselves: far left, far right, near right, near left as the player sees them",
    )


class KeyboardFind(Node[KeyboardFindSettings]):
    """Find the keys of a piano in frames, and follow them.

    Every frame leads to a packet of kind `keyboard`, with the grid as it is known by then: all NaN
    and `state` `none` while there is none. `octave` in `meta` says how it is known which octave is
    which, see `stream.music.finder.finding.Keyboard`. A keyboard is searched in a frame, and if
    that is not certain in the median of a few, then followed; one that is covered for more than a
    second, or that jumps, is searched anew. When it is found at another place, a new segment
    begins.
    """

    use = "keyboard.find"
    summary = "where the keys of a piano are in each frame"
    Settings = KeyboardFindSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"frame"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of key grids.

        Raises
        ------
        ConfigError
            The settings name no keyboard that there is, or the input is no stream of frames.
        MissingExtraError
            OpenCV is not installed.
        """
        ((stream, spec),) = inputs.items()
        height, width = check_frames(self.use, stream, spec)
        s = self.settings
        check_layout(s.keys, s.lowest)
        if s.corners is not None:
            _check_corners(s.corners, height, width)
        load_cv2(f"The node '{self.use}'")
        return {"": keyboard_spec(height, width, spec.period_s)}

    def open(self, context: Context) -> None:
        """Load what is needed."""
        super().open(context)
        ((stream, spec),) = context.inputs.items()
        self._height, self._width = check_frames(self.use, stream, spec)
        self._cv2 = load_cv2(f"The node '{self.use}'")
        self._recent: deque[Floats] = deque(maxlen=_FRAMES)
        self._tracker: Tracker | None = None
        self._last: Keyboard | None = None
        self._grid: KeyGrid = no_grid()
        self._next_ns = self._seen_ns = -1
        self._in_vain = 0
        self._wait_ns = _WAIT_NS[0]
        self._segment = 0
        self._frames: int | None = None
        self._counts = {"found": 0, "lost": 0, "moved": 0, "searches": 0}
        self._note()

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Take a frame; search or follow the keyboard when that is due."""
        if self._frames is not None and packet.segment != self._frames:
            # What comes now may be another camera, or the same one elsewhere.
            self._recent.clear()
            self._next_ns = packet.source_ns
            self._segment += 1
        self._frames = packet.segment
        if packet.source_ns >= self._next_ns:
            work = to_work(packet.data)
            if self._tracker is None:
                self._search(work, packet)
            else:
                self._follow(self._tracker, work, packet)
        yield self._packet(packet)

    def _search(self, work: Floats, packet: Packet) -> None:
        self._recent.append(work)
        self._next_ns = packet.source_ns + _APART_NS
        full = len(self._recent) == _FRAMES
        # One frame mostly does, in spite of hands. Where it does not, that is not tried each time.
        alone = len(self._recent) == 1 and self._wait_ns == _WAIT_NS[0]
        if not (full or alone or self.settings.corners):
            return
        self._counts["searches"] += 1
        keyboard = self._find(
            median_of_five(tuple(self._recent)) if full else work,
            SURE if full or self.settings.corners else _CERTAIN,
        )
        if keyboard is None and not full:
            return
        self._recent.clear()
        if keyboard is None:
            self._next_ns = packet.source_ns + self._wait_ns
            self._wait_ns = min(2 * self._wait_ns, _WAIT_NS[1])
            self._note()
            return
        self._wait_ns = _WAIT_NS[0]
        self._next_ns, self._seen_ns = packet.source_ns + _LOOK_NS, packet.source_ns
        self._counts["found"] += 1
        if self._last is not None and not same_place(self._last, keyboard):
            self._segment += 1
        self._tracker = Tracker(keyboard)
        # What plays goes by where the keys last were, so that following them can wait.
        self.context.give_way()
        self._take(keyboard)
        self._draw(packet.data)
        self._note()

    def _find(self, work: Floats, enough: float) -> Keyboard | None:
        """Return the keyboard in a picture, if that is sure enough; else note why it is not."""
        s, note = self.settings, self.context.counters.note
        if s.corners is not None:
            scale = WORK_PX / max(self._height, self._width)
            corners = [((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5) for x, y in s.corners]
            keys = s.keys or 88
            keyboard = keyboard_at(work, corners, keys, s.lowest or SIZES[keys])
            note(TROUBLE, keyboard.reason)
            return keyboard
        found = find_keyboard(work, s.keys, s.lowest, self.context.alive)
        sure = 0.0 if found is None else found.confidence
        reason = "no keyboard is seen" if found is None else found.reason
        if s.keys is not None and sure < _CERTAIN:
            other = find_keyboard(work, alive=self.context.alive)
            surer = other is not None and other.confidence >= max(SURE, sure + _MORE)
            if other is not None and surer and other.keys != s.keys:
                sure, reason = 0.0, f"it seems to have {other.keys} keys, 'keys' says {s.keys}"
        note(TROUBLE, "" if sure >= enough else reason)
        return found if sure >= enough else None

    def _follow(self, tracker: Tracker, work: Floats, packet: Packet) -> None:
        self._next_ns = packet.source_ns + _LOOK_NS
        sight = tracker.look(work)
        self._in_vain += 1
        gone = self._in_vain >= _GONE_LOOKS and packet.source_ns - self._seen_ns >= _GONE_NS
        if sight.there:
            self._seen_ns, self._in_vain = packet.source_ns, 0
            if sight.moved:
                self._counts["moved"] += 1
                self._take(tracker.keyboard)
                self._note()
        elif gone and self.settings.corners is None:
            self._tracker, self._in_vain = None, 0
            self._grid = no_grid()
            self._counts["lost"] += 1
            self._next_ns = packet.source_ns
            self._note()

    def _take(self, keyboard: Keyboard) -> None:
        self._last = keyboard
        self._grid = keyboard.grid(self._height, self._width)

    def _packet(self, packet: Packet) -> Packet:
        meta: dict[str, Any] = {"state": NONE, "confidence": 0.0}
        if self._tracker is not None:
            keyboard = self._tracker.keyboard
            meta = {
                "state": FOUND,
                "confidence": round(keyboard.confidence, 3),
                "octave": keyboard.octave,
                "keys": keyboard.keys,
            }
        made = packet.derive("keyboard", self._grid, meta=meta)
        made.segment = self._segment
        return made

    def _draw(self, frame: Frame) -> None:
        """Write a picture of the grid, so that the user sees which keys are taken for which."""
        picture = frame.copy()
        draw_grid(picture, self._grid)
        path = self.context.run_dir / f"{self.context.name}.png"
        ok, content = self._cv2.imencode(".png", picture)
        if ok:
            path.write_bytes(content.tobytes())
            self.context.counters.note("picture", str(path))

    def _note(self) -> None:
        note = self.context.counters.note
        for name, count in self._counts.items():
            note(name, count)
        if self._last is not None:
            note("confidence", round(self._last.confidence, 3))
            note("octave", self._last.octave)
            note("keys", self._last.keys)


def _check_corners(corners: tuple[tuple[float, float], ...], height: int, width: int) -> None:
    if len(corners) != 4:
        raise ConfigError(
            f"corners: {len(corners)} points are given; four are needed: far left, far right, near"
            " right and near left corner of the keys, as the player sees them."
        )
    outside = [(x, y) for x, y in corners if not (-1 <= x <= width and -1 <= y <= height)]
    if outside:
        x, y = outside[0]
        raise ConfigError(
            f"corners: {x:g}, {y:g} is not in the frames, which are {width} x {height}; measure the"
            " corners in a frame of this size."
        )
    points = np.array(corners)
    turns = [
        float(np.cross(points[(i + 1) % 4] - points[i], points[(i + 2) % 4] - points[(i + 1) % 4]))
        for i in range(4)
    ]
    if not (all(turn > 0 for turn in turns) or all(turn < 0 for turn in turns)):
        raise ConfigError(
            "corners: the four points do not go round the keys; their order is far left, far right,"
            " near right, near left, as the player sees them."
        )
