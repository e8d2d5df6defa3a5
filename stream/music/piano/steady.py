"""Brings strips to one place and one light, so that only what keys and hands do is left in them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.music.keyboard import WHITES
from stream.music.piano.strip import BEYOND_ROWS, PX_PER_WHITE, STRIP_HEIGHT, STRIP_WIDTH, Rectifier
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

# Along and across; cameras that stand still seem to move by up to 0.1 and 0.35 px, since hands do.
_STILL_PX = (0.2, 0.5)
_MOVING = 60
_ONE_STEP_PX = 0.15
_SEARCHED_PX = 6
_LOST_PX = 36.0
# The grid of a finder that follows is a little other each time; it is taken when it is so far off.
_HELD_PX = 4.0
_EDGES_EVERY = 100
_MOST_EDGES = 3000

_FLAT = 0.03
_CHANGE, _JUMP = 0.12, 0.025
_UNSTEADY = 30
_MOST_LIGHT = 1.2
_BURNT = 250
_FEW_CELLS = 40
_CELLS = (WHITES, STRIP_HEIGHT // 4)
# Rows of cells without those beyond the keys, where the hands are.
_KEY_CELLS = (STRIP_HEIGHT - BEYOND_ROWS) // 4
# Per frame, what is usual takes on so much of a new light, and so much of a new look.
_LIGHT_RATE = 0.005
_LONG, _SURPRISE = 100, 38

# Hands at play leave a likeness of 0.66 or more; a sheet or an arm over the keys leaves about 0.
_ALIKE, _MOSTLY_ALIKE = 0.5, 0.8
_BLACK_ROWS = 30
_BESIDE, _EDGE = 2, 3
_NOISE = 30.0
_BLANK = 3.0


class Steady:
    """Knows what the keys usually look like, and takes strips out of frames so that they stay so.

    It follows a camera that moves by up to three white keys against the grid, and light that
    changes for all keys. The strips of a camera that stands still
    under a light that stays are left as they are, to the last bit.

    Attributes
    ----------
    moving
        For how many frames strips will still be moved if the camera stands still; 0 while they are
        not.
    relit
        Whether the last frame had another light than usual.
    covered
        (52,) Which whites something lay over in the last frame, with the blacks beside them; they
        are shown as they usually look. It is all of them where most look unlike.
    """

    def __init__(self) -> None:
        self._cv2: Any = load_cv2("A view of a keyboard")
        self._frames = 0
        self._usual = np.zeros((STRIP_HEIGHT, STRIP_WIDTH), np.float32)
        # Along at the middle, and how much more at the right end; the same across. In pixels.
        self._way = np.zeros(4, np.float32)
        self.moving = 0
        self.relit = False
        self._unsteady = 0
        self._changed: tuple[Floats | None, Doubles] = (None, np.zeros(_CELLS[::-1]))
        self._change_before: Doubles = np.zeros(_CELLS[::-1])
        self.covered = np.zeros(WHITES, bool)
        y, u = np.meshgrid(
            np.linspace(-1, 1, _CELLS[1]), np.linspace(-1, 1, _CELLS[0]), indexing="ij"
        )
        self._planes = np.stack([np.ones_like(u), y, y * y, u, u * u], axis=-1).reshape(-1, 5)

    def holds(self, along: float, across: float) -> bool:
        """Tell whether a grid so many pixels further lies where strips are taken from anyway."""
        return bool(
            abs(along - self._way[0]) <= _HELD_PX and abs(across - self._way[2]) <= _HELD_PX
        )

    def moved(self, along: float, across: float) -> None:
        """Say that the grid was moved by so many pixels of the strip."""
        self._way[0] -= along
        self._way[2] -= across
        self.moving = _MOVING

    def __call__(self, rectify: Rectifier, frame: Frame) -> Frame:
        """Return the strip of a frame."""
        strip = self._taken(rectify, frame)
        luma = self._luma(strip)
        if self._frames == 0:
            self._usual = luma
            self._learn(luma, None)
            return strip
        if self._look(luma):
            strip = self._taken(rectify, frame)
            luma = self._luma(strip)
        light = self._light_of(luma)
        self.relit = light is not None
        if light is not None:
            strip = self._relit(strip, light)
            luma = self._luma(strip)
        self.covered = self._covered(luma)
        shown = self._uncovered(strip, luma) if self.covered.any() else strip
        self._learn(luma, light)
        return shown

    def _taken(self, rectify: Rectifier, frame: Frame) -> Frame:
        strip = rectify(frame, self._way if self.moving else None)
        off = np.zeros(4, np.float32)
        # What is further off is measured in two steps.
        if self._frames and self.moving:
            off = self._off(self._flat(self._luma(strip)))
        if np.abs(off).max() > _ONE_STEP_PX:
            self._turn(self._way + off)
            strip = rectify(frame, self._way)
        return strip

    def _look(self, luma: Floats) -> bool:
        """Measure how a strip lies, and tell whether it is to be taken anew for that."""
        seen = self._way + self._off(self._flat(luma))
        if (np.abs(seen[::2]) > _STILL_PX).any():
            self.moving = _MOVING
        elif self.moving:
            self.moving -= 1
        self._turn(seen if self.moving else np.zeros(4, np.float32))
        return self.moving > 0

    def _turn(self, way: Floats) -> None:
        """Take strips there from now on; what is too far off is a keyboard that is elsewhere."""
        self._way = way if np.abs(way).max() <= _LOST_PX else np.zeros(4, np.float32)

    def _luma(self, strip: Frame) -> Floats:
        return np.asarray(self._cv2.cvtColor(strip, self._cv2.COLOR_BGR2GRAY), np.float32)

    def _flat(self, luma: Floats) -> Floats:
        """Return a strip in about the usual light, to see whether it moved."""
        change = self._change(luma)
        return luma if np.abs(change).max() < _FLAT else luma / self._spread(change)

    def _light_of(self, luma: Floats) -> Floats | None:
        """Return by which factor each pixel is brighter than usual; None where light stays."""
        change = self._change(luma)
        there = change != 0
        jump = np.abs(change - self._change_before)
        self._change_before = change
        # Hands do much to some parts, light something to most.
        if there.any() and (
            np.median(jump[there]) > _JUMP or np.median(np.abs(change[there])) > _CHANGE
        ):
            self._unsteady = _UNSTEADY
        elif self._unsteady:
            self._unsteady -= 1
        return self._spread(change) if self._unsteady else None

    def _change(self, luma: Floats) -> Doubles:
        """Return (14, 52) by how much parts of a strip are brighter than usual, as a logarithm.

        A surface of the second degree is fitted to the ratios of cells, so that hands, which are
        other than what they hide, count for little.
        """
        if luma is self._changed[0]:
            return self._changed[1]
        usual, area = self._usual, self._cv2.INTER_AREA
        known = ((luma < _BURNT) & (usual < _BURNT) & (usual > 6)).astype(np.float32)
        now, then, share = (
            self._cv2.resize(x, _CELLS, interpolation=area).ravel()
            for x in (luma * known, usual * known, known)
        )
        use = (share > 0.3) & (then > 4 * share)
        use[_KEY_CELLS * WHITES :] = False
        fit = np.zeros(5)
        if use.sum() >= _FEW_CELLS:
            ratio = np.log((now[use] + 1) / (then[use] + 1))
            planes = self._planes[use]
            fit[0] = np.median(ratio)
            for width in (0.2, 0.1, 0.05, 0.03, 0.03):
                a = (planes / (1 + ((ratio - planes @ fit) / width) ** 2)[:, None]).T
                fit = np.linalg.solve(a @ planes + 0.01 * np.eye(5), a @ ratio)
        change = (self._planes @ fit).reshape(_CELLS[::-1])
        # A surface tells nothing of where no keys are.
        change *= use.reshape(change.shape).any(axis=0)
        change[_KEY_CELLS:] = change[_KEY_CELLS - 1]
        self._changed = luma, np.asarray(np.clip(change, -_MOST_LIGHT, _MOST_LIGHT))
        return self._changed[1]

    def _spread(self, change: Doubles) -> Floats:
        whole = self._cv2.resize(
            change.astype(np.float32), (STRIP_WIDTH, STRIP_HEIGHT),
            interpolation=self._cv2.INTER_LINEAR,
        )  # fmt: skip
        return np.asarray(np.exp(whole), np.float32)

    def _relit(self, strip: Frame, light: Floats) -> Frame:
        """Return a strip in the usual light."""
        out = strip / light[..., None]
        # What is burnt out is at least so bright; how much brighter, only the usual look can tell.
        least = np.maximum(255 / light, self._usual)[..., None]
        out = np.where(strip >= _BURNT, np.maximum(out, least), out)
        return np.asarray(np.clip(out + 0.5, 0, 255), np.uint8)

    def _mark_edges(self) -> None:
        """Choose the pixels by which movement is seen."""
        smooth = self._smooth(self._usual)
        gx = self._cv2.Sobel(smooth, self._cv2.CV_32F, 1, 0, ksize=3) / 8
        gy = self._cv2.Sobel(smooth, self._cv2.CV_32F, 0, 1, ksize=3) / 8
        strength = np.abs(gx) + np.abs(gy)
        strength[:2] = strength[-8:] = 0
        self._at = np.flatnonzero(strength.ravel() > 0.25 * np.percentile(strength[::2, ::4], 95))
        self._at = self._at[:: max(1, len(self._at) // _MOST_EDGES)]
        ramp = np.linspace(-1, 1, STRIP_WIDTH, dtype=np.float32)[self._at % STRIP_WIDTH]
        gx, gy = gx.ravel()[self._at], gy.ravel()[self._at]
        self._slopes = np.stack([gx, gx * ramp, gy, gy * ramp])
        self._edges = smooth.ravel()[self._at]

    def _smooth(self, luma: Floats) -> Floats:
        return np.asarray(self._cv2.GaussianBlur(luma, (0, 0), 1.0), np.float32)

    def _off(self, luma: Floats) -> Floats:
        """Return by how much a strip is off the usual one (Lucas & Kanade 1981), as `_way`."""
        if len(self._at) < 200:
            return np.zeros(4, np.float32)
        rest = self._smooth(luma).ravel()[self._at] - self._edges
        scale = 2 * (float(np.median(np.abs(rest))) + 1.5)
        fit = np.zeros(4)
        for _ in range(3):
            a = self._slopes / (1 + ((rest - fit @ self._slopes) / scale) ** 2)
            h = a @ self._slopes.T
            fit = np.linalg.solve(h + 1e-3 * np.trace(h) * np.eye(4), a @ rest)
        off = np.clip(-fit, -2.5, 2.5).astype(np.float32)
        if np.abs(off).max() > 1 and (far := self._far(luma)):
            off[:] = far, 0, 0, 0
        return off

    def _far(self, luma: Floats) -> int:
        """Return by how many whole pixels it lies further along, 0 where it is few."""
        rows, columns = self._at // STRIP_WIDTH, self._at % STRIP_WIDTH
        usual = self._usual.ravel()[self._at]

        def unlike(by: int) -> float:
            there = luma[rows, np.clip(columns + by, 0, STRIP_WIDTH - 1)]
            return float(np.minimum(np.abs(there - usual), 40).mean())

        found = min(range(-_SEARCHED_PX, _SEARCHED_PX + 1), key=unlike)
        return found if abs(found) > 2 else 0

    def _covered(self, luma: Floats) -> NDArray[np.bool_]:
        """Return (52,) where the blacks are not seen that usually are, over five whites each."""
        a, b = self._usual[:_BLACK_ROWS], luma[:_BLACK_ROWS]
        sums = np.stack([x.sum(axis=0) for x in (a, b, a * a, b * b, a * b)])
        width = (2 * _BESIDE + 1) * PX_PER_WHITE
        mean = self._cv2.blur(sums, (width, 1), borderType=self._cv2.BORDER_REFLECT)
        a1, b1, aa, bb, ab = mean[:, PX_PER_WHITE // 2 :: PX_PER_WHITE] / _BLACK_ROWS
        like = (ab - a1 * b1) / np.sqrt((aa - a1 * a1 + 1) * (bb - b1 * b1 + _NOISE))
        there = a1 > _BLANK
        covered = there & (like < _ALIKE)
        # Keys some whole keys aside look half like those that should be there.
        if there.any() and np.median(like[there]) < _MOSTLY_ALIKE:
            return np.asarray(there)
        # Over the edge of what covers keys, the five still look like keys.
        return np.asarray(np.convolve(covered, np.ones(2 * _EDGE + 1), "same") > 0)

    def _uncovered(self, strip: Frame, luma: Floats) -> Frame:
        """Return a strip in which keys that are covered look as usual."""
        tint = strip.reshape(-1, 3).mean(axis=0) / max(1.0, float(luma.mean()))
        columns = np.repeat(self.covered, PX_PER_WHITE)
        shown = strip.copy()
        usual = self._usual[:, columns, None] * tint
        shown[:, columns] = np.clip(usual + 0.5, 0, 255).astype(np.uint8)
        return shown

    def _learn(self, luma: Floats, light: Floats | None) -> None:
        rate = 1 / min(self._frames + 1, _LONG)
        self._usual = self._usual + rate * np.clip(luma - self._usual, -_SURPRISE, _SURPRISE)
        if light is not None:
            self._usual = self._usual * light**_LIGHT_RATE
        if self._frames % _EDGES_EVERY == 0:
            self._mark_edges()
        self._frames += 1
