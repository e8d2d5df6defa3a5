"""The black keys along a plane, as a picture shows them: how dark, where, and how sure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.music.finder.plane import BLACKS_U, Doubles, Floats, Plane
from stream.music.keyboard import BLACK_WIDTH_U
from stream.vision.opencv import load_cv2

# Samples along the keyboard for each white key.
PER_WHITE = 16
_LEVELS = 3
_HALF = PER_WHITE * 3 // 4
_OFFSETS = np.arange(-_HALF, _HALF + 1) / PER_WHITE
_BAR = np.abs(_OFFSETS) <= 0.19
_LEFT = (_OFFSETS >= -0.68) & (_OFFSETS <= -0.46)
_RIGHT = _LEFT[::-1]
SUPPORTED = 0.6
"""Correlation from which a black key counts as seen."""

DEPTHS = np.arange(-0.8, 2.21, 0.05)
"""z at which blacks from 0 to 1 are looked at."""
INNER = slice(int(np.searchsorted(DEPTHS, 0.2)), int(np.searchsorted(DEPTHS, 0.85)))


class Pyramid:
    """A grey picture in several sizes, to be sampled along a keyboard.

    `alive` is called with each sample.
    """

    def __init__(self, grey: Floats, alive: Callable[[], None] = lambda: None) -> None:
        self._alive = alive
        self._cv2 = load_cv2("Finding a keyboard")
        self.height, self.width = grey.shape
        self._levels = [grey]
        for _ in range(_LEVELS - 1):
            self._levels.append(self._cv2.pyrDown(self._levels[-1]))

    def sample(self, plane: Plane, u: Doubles, z: Doubles) -> Floats:
        """Return the picture (z, u) at points of a plane; NaN outside of it."""
        self._alive()
        at = plane.pixels(u[None, :], z[:, None])
        steps = np.linalg.norm(np.diff(at, axis=1), axis=-1)
        step = float(np.nanmedian(steps)) if np.isfinite(steps).any() else 1.0
        level = int(np.clip(np.floor(np.log2(max(step, 1e-6))), 0, _LEVELS - 1))
        # Pixel centres of a smaller level lie at other places.
        xy = (at / 2.0**level).astype(np.float32)
        image = self._levels[level]
        outside = ~(
            (xy[..., 0] >= 0) & (xy[..., 0] <= image.shape[1] - 1)
            & (xy[..., 1] >= 0) & (xy[..., 1] <= image.shape[0] - 1)
        )  # fmt: skip
        xy[outside] = 0
        found: Floats = self._cv2.remap(image, xy[..., 0], xy[..., 1], self._cv2.INTER_LINEAR)
        found[outside] = np.nan
        return found


def blacks_between(low: float, high: float) -> Doubles:
    """Return the middles of the blacks whose whites lie between two lines, as u."""
    octaves = np.arange(np.floor(low / 7) - 1, np.ceil(high / 7) + 1)
    all_u = (7 * octaves[:, None] + BLACKS_U).ravel()
    return np.asarray(all_u[(np.floor(all_u - 0.3) >= low) & (np.ceil(all_u + 0.3) <= high)])


class Bars(NamedTuple):
    """The blacks of a stretch of keyboard as a picture shows them.

    Attributes
    ----------
    u
        (k,) Where they should be.
    windows
        (k, z, offsets) The picture around where they seem to be.
    contrast
        (k, z) How much darker than the whites at their sides, as a share of these.
    support
        (k,) Correlation with the pattern of one black and its neighbours, up to 1.
    aside
        (k,) How far the middles of the windows are from where the blacks should be.
    """

    u: Doubles
    windows: Floats
    contrast: Floats
    support: Floats
    aside: Doubles


def look(
    pyramid: Pyramid, plane: Plane, u: Doubles, z: Doubles, inner: slice, *, slack: bool = False
) -> Bars:
    """Look at the blacks at `u`, at the depths `z`; `inner` are those that are surely on blacks.

    With `slack` those are supported, too, that lie up to 3/8 of a white key aside.
    """
    low, high = float(u.min()) - 2, float(u.max()) + 2
    grid = np.arange(np.floor(low) * PER_WHITE, np.ceil(high) * PER_WHITE + 1) / PER_WHITE
    strip = pyramid.sample(plane, grid, z)
    first = np.round((u - grid[0]) * PER_WHITE).astype(int)
    wide = np.arange(-PER_WHITE, PER_WHITE + 1)
    profile = strip[inner].mean(0)
    expected = _pattern(u[:, None] + wide / PER_WHITE)
    shifts = np.arange(-6, 7, 2) if slack else np.zeros(1, int)
    supports = np.stack(
        [_correlation(profile[first[:, None] + wide + n], expected, 3.0) for n in shifts]
    )
    best = np.argmax(supports, axis=0)
    first = first + shifts[best]
    windows = strip[:, first[:, None] + np.arange(-_HALF, _HALF + 1)].transpose(1, 0, 2)
    bar = windows[:, :, _BAR].mean(-1)
    sides = (windows[:, :, _LEFT].mean(-1) + windows[:, :, _RIGHT].mean(-1)) / 2
    # Blacks do not lie at whole samples.
    aside = grid[first] - u
    # Lamps light one end of the keys more than the other.
    contrast = (sides - bar) / (np.maximum(sides, bar) + 10)
    return Bars(u, windows, contrast, supports.max(axis=0), aside)


def _pattern(u: Doubles) -> Doubles:
    """Return the brightness along a line through the blacks, 0 or 1."""
    inside = np.mod(u, 7)[..., None]
    return np.asarray(1.0 - (np.abs(inside - BLACKS_U) < BLACK_WIDTH_U / 2).any(-1))


def _correlation(values: Any, expected: Any, grain: float) -> Floats:
    """Return the correlation of rows; `grain` levels of noise are taken to be in the values."""
    a = values - values.mean(-1, keepdims=True)
    b = expected - expected.mean(-1, keepdims=True)
    size = np.sqrt((a**2).sum(-1) + grain**2 * a.shape[-1]) * np.sqrt((b**2).sum(-1))
    return np.asarray(np.nan_to_num((a * b).sum(-1) / size, nan=-1.0), np.float32)


def runs(
    contrast: Floats, z: Doubles, start: slice, *, limited: bool = False
) -> tuple[Doubles, Doubles]:
    """Return (k,), (k,) where the darkness of each black begins and ends; NaN where unknown.

    Where it goes on to the limits of `z`, it ends there with `limited`, else that is not known.
    """
    threshold = 0.5 * np.median(contrast[:, start], axis=1)
    middle = (start.start + start.stop) // 2

    def walk(part: Floats) -> Doubles:
        """Return how many steps the darkness reaches from the first column on."""
        dark = part > threshold[:, None]
        # One row alone may be noise.
        dark[:, 1:-1] |= dark[:, :-2] & dark[:, 2:]
        end = np.argmin(dark, axis=1)
        inside, outside = (
            np.take_along_axis(part, at[:, None], 1)[:, 0] for at in (np.maximum(end - 1, 0), end)
        )
        part_of_step = np.clip((inside - threshold) / np.maximum(inside - outside, 1e-6), 0, 1)
        steps = np.where(end == 0, np.nan, end - 1 + part_of_step)
        return np.where(dark.all(1), part.shape[1] - 1 if limited else np.nan, steps)

    good = (threshold > 0.06) & (contrast[:, middle] > threshold)
    step = z[1] - z[0]
    bottom = np.where(good, z[middle] + walk(contrast[:, middle:]) * step, np.nan)
    top = np.where(good, z[middle] - walk(contrast[:, : middle + 1][:, ::-1]) * step, np.nan)
    return top, bottom


def ends_fit(bars: Bars) -> float:
    """Return the share of the blacks seen whose ends are where the plane has them."""
    seen = bars.support > SUPPORTED
    top, bottom = runs(bars.contrast, DEPTHS, INNER, limited=True)
    close = (np.abs(top) < 0.15) & (np.abs(bottom - 1) < 0.15)
    return float(close[seen].mean()) if seen.any() else 0.0


def centres(bars: Bars, rows: slice) -> tuple[Doubles, NDArray[np.bool_]]:
    """Return (k,) how far each black is from where it should be, and whether that is to be used."""
    windows = bars.windows[:, rows].mean(1)
    bar = windows[:, _BAR].mean(-1)
    sides = np.minimum(windows[:, _LEFT].mean(-1), windows[:, _RIGHT].mean(-1))
    depth = np.maximum(sides - bar, 1.0)
    dark = np.clip((sides[:, None] - windows) / depth[:, None] - 0.3, 0, 0.5)
    dark[:, np.abs(_OFFSETS) > 0.6] = 0
    total = dark.sum(-1)
    centre = (dark * _OFFSETS).sum(-1) / np.maximum(total, 1e-6)
    wide = total / PER_WHITE / 0.5
    good = (sides - bar > 4) & (wide > 0.3) & (wide < 0.95) & np.isfinite(centre)
    return centre + bars.aside, good
