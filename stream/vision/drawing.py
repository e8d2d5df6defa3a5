"""Draws what was found into frames, a strip with label and latency below, a piano roll above."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.music.heard import Heard
from stream.music.key_drawing import draw_keys, light_keys
from stream.music.keyboard import KeyGrid
from stream.music.roll import Roll
from stream.vision.frames import Frame
from stream.vision.layouts import Layout
from stream.vision.opencv import load_cv2

Colour = tuple[int, int, int]

_LEFT: Colour = (64, 160, 255)
_RIGHT: Colour = (255, 180, 60)
_MIDDLE: Colour = (235, 235, 235)
_OUTLINE: Colour = (20, 20, 20)
_STRIP: Colour = (34, 30, 28)
_TEXT: Colour = (240, 240, 240)
_DIM: Colour = (160, 155, 150)
_BAR: Colour = (120, 200, 90)
_SEEN = 0.5
_ROLL_SHARE = 0.4
# How strongly a key is lit that only the pedal holds.
_SUSTAINED = 0.4
# Joints so close together that dots would hide the lines between them.
_FINE = ("eye", "mouth", "ear", "nose", "pinky", "index", "thumb", "heel", "middle", "ring")


class Found(NamedTuple):
    """What to draw.

    Attributes
    ----------
    layout
        Which joint stands where.
    joints
        (joints, 3): x and y in pixels and how sure they are, from 0 to 1.
    side
        `left_` or `right_` for a hand; empty for a body, whose joints name their sides.
    """

    layout: Layout
    joints: NDArray[np.float32]
    side: str = ""


@dataclass
class Scene:
    """What there is to draw at a time.

    Attributes
    ----------
    time_ns
        The time of the frame on the clock of its source.
    found
        Persons and hands.
    nobody
        Whether somebody was looked for and nobody was in view.
    label, probability
        The best class, empty when there is no label, and its probability. Not shown of nobody.
    remarks
        Short texts for the right side of the strip, such as `keys 18 ms`.
    grid
        Where keys are; None when that is not known.
    notes
        Those of the last seconds, in the order of their onsets, and perhaps later ones.
    no_keyboard
        Whether the keys of a piano were looked for and not found.
    """

    time_ns: int = 0
    found: list[Found] = field(default_factory=list)
    nobody: bool = False
    label: str = ""
    probability: float = 0.0
    remarks: list[str] = field(default_factory=list)
    grid: KeyGrid | None = None
    notes: list[Heard] = field(default_factory=list)
    no_keyboard: bool = False


class Painter:
    """Draws frames of one size. `size` is width and height of what it returns, both even."""

    def __init__(self, height: int, width: int, *, roll: bool = False) -> None:
        self._cv2 = load_cv2("The node 'overlay'")
        above = round(_ROLL_SHARE * height) if roll else 0
        self._roll = Roll(above, width) if roll else None
        self._unit = max(1.0, height / 360)
        # Characters have a least size at which they can be read.
        self._scale = max(0.42, 0.55 * height / 480)
        full = above + height + round(58 * self._scale)
        self.size = (width + width % 2, full + full % 2)
        self._canvas = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        self._above = self._canvas[:above, :width]
        self._image = self._canvas[above : above + height, :width]
        self._below = self._canvas[above + height :]

    def draw(self, frame: Frame, scene: Scene) -> Frame:
        """Return the picture; it is valid until the next one is drawn."""
        self._image[:] = frame
        if scene.grid is not None:
            draw_keys(self._image, scene.grid)
            light_keys(self._image, scene.grid, _strengths(scene))
        for item in scene.found:
            self._skeleton(self._image, item)
        if self._roll is not None:
            self._roll.draw(self._above, scene.notes, scene.time_ns, scene.grid)
        self._below[:] = _STRIP
        self._strip(self._below, scene)
        return self._canvas

    def _skeleton(self, image: Frame, found: Found) -> None:
        cv2, layout = self._cv2, found.layout
        seen = found.joints[:, 2] >= _SEEN
        points = np.nan_to_num(found.joints[:, :2]).clip(-30_000, 30_000)
        # A sixteenth of a pixel is what OpenCV can place a line to.
        spots = [tuple(spot) for spot in np.round(points * 16).astype(int).tolist()]
        names = [found.side + joint for joint in layout.joints]
        edges = [(a, b) for a, b in layout.edges.tolist() if seen[a] and seen[b]]
        thick = max(1, round(1.6 * self._unit))
        for outline in (True, False):
            for a, b in edges:
                width = max(1, thick // 2) if _is_fine(names[a]) and _is_fine(names[b]) else thick
                colour = _OUTLINE if outline else _colour(names[a], names[b])
                cv2.line(image, spots[a], spots[b], colour, width + 2 * outline, cv2.LINE_AA, 4)
        radius = round(2.2 * self._unit * 16)
        for spot, name, shown in zip(spots, names, seen, strict=True):
            if shown and not _is_fine(name):
                cv2.circle(image, spot, radius + 16, _OUTLINE, -1, cv2.LINE_AA, 4)
                cv2.circle(image, spot, radius, _colour(name, name), -1, cv2.LINE_AA, 4)

    def _strip(self, canvas: Frame, scene: Scene) -> None:
        cv2, scale = self._cv2, self._scale
        margin = round(18 * scale)
        middle = canvas.shape[0] // 2
        base = middle + round(10 * scale)
        right = canvas.shape[1] - margin
        for remark in reversed(scene.remarks):
            width = self._width_of(remark, 0.8 * scale)
            self._text(canvas, remark, (right - width, base), 0.8 * scale, _DIM)
            right -= width + margin
        # Whatever was said last of somebody who has left is not shown of nobody.
        if scene.nobody or not scene.label:
            seconds = scene.time_ns / 1e9
            note = f"{seconds // 60:.0f}:{seconds % 60:04.1f}"
            if scene.nobody or scene.no_keyboard:
                note = "nobody in view" if scene.nobody else "no keyboard found"
            self._text(canvas, note, (margin, base), scale, _DIM)
            return
        self._text(canvas, scene.label, (margin, base), scale, _TEXT)
        left = 2 * margin + self._width_of(scene.label, scale)
        percent = f"{100 * scene.probability:.0f} %"
        length = min(round(150 * scale), right - left - self._width_of(percent, scale) - margin)
        if length > margin:
            half = max(2, round(5 * scale))
            end = left + round(length * min(1.0, max(0.0, scene.probability)))
            for stop, colour in ((left + length, (70, 64, 60)), (end, _BAR)):
                cv2.rectangle(canvas, (left, middle - half), (stop, middle + half), colour, -1)
            left += length + margin
        self._text(canvas, percent, (left, base), 0.9 * scale, _TEXT)

    def _text(
        self, canvas: Frame, text: str, at: tuple[int, int], scale: float, colour: Colour
    ) -> None:
        cv2 = self._cv2
        thick = max(1, round(1.4 * scale))
        # The letters of OpenCV are ASCII.
        plain = text.encode("ascii", "replace").decode()
        cv2.putText(canvas, plain, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thick, cv2.LINE_AA)

    def _width_of(self, text: str, scale: float) -> int:
        cv2 = self._cv2
        thick = max(1, round(1.4 * scale))
        return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)[0][0])


def _strengths(scene: Scene) -> dict[int, float]:
    """Return how strongly to light the keys that are heard, by pitch."""
    heard = [note for note in scene.notes if note.is_heard(scene.time_ns)]
    strengths = {note.pitch: _SUSTAINED for note in heard}
    return strengths | {note.pitch: 1.0 for note in heard if note.is_down(scene.time_ns)}


def _is_fine(joint: str) -> bool:
    return any(part in joint for part in _FINE)


def _colour(a: str, b: str) -> Colour:
    for side, colour in (("left_", _LEFT), ("right_", _RIGHT)):
        if a.startswith(side) and b.startswith(side):
            return colour
    return _MIDDLE
