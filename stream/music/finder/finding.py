"""Finds the keys of a piano in one picture, by the pattern of the blacks; nothing is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.music.finder.bars import (
    DEPTHS,
    INNER,
    PER_WHITE,
    SUPPORTED,
    Pyramid,
    blacks_between,
    ends_fit,
    look,
)
from stream.music.finder.fitting import Fit, fit_seed, refit
from stream.music.finder.layouts import (
    WHITE_NAMES,
    between_lines,
    find_layout,
    whites_of,
    without_hidden_ends,
)
from stream.music.finder.plane import Doubles, Floats, Plane, plane_of_line
from stream.music.finder.seeds import WORK_PX, Seed, find_seeds, likely_angles
from stream.music.keyboard import WHITES, KeyGrid, no_grid
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

SURE = 0.5
"""Confidence from which a keyboard counts as found."""

FRONT_Z = 1.55
"""z of the front ends of whites on most pianos, where blacks are from 0 to 1."""

_ANGLES = 3
_SEEDS = 10


class Keyboard(NamedTuple):
    """A keyboard that a picture shows, or seems to show.

    Attributes
    ----------
    plane
        Where its keys lie in the picture that it was found in, at the scale of `to_work`.
    front
        z of the front ends of the whites; blacks are from 0 to 1.
    first, whites
        u of the left line of its first white key, and how many there are.
    lowest
        Which of the 52 white keys of a piano the first one is.
    confidence
        0 to 1; a keyboard from `SURE` on.
    octave
        How it is known which octave is which: `seen` by an end of the keyboard, `given` by the
        settings, or `assumed`: middle C is near the middle.
    keys
        How many keys the keyboard seems to have.
    reason
        What speaks against it, where it is not sure; else empty.
    length
        Of what is seen of it, in pixels of that scale.
    """

    plane: Plane
    front: float
    first: int
    whites: int
    lowest: int
    confidence: float
    octave: str
    keys: int
    reason: str = ""
    length: float = 0.0

    def grid(self, height: int, width: int) -> KeyGrid:
        """Return the grid in pixels of a picture of that size.

        Lines that are more than half a white key outside of it are left out.
        """
        grid = no_grid()
        lines = np.arange(self.whites + 1)
        at = self.plane.pixels(
            self.first + lines[None, :], np.array([0.0, 1.0, self.front])[:, None]
        )
        scale = max(height, width) / WORK_PX
        # Pixel centres of the smaller picture lie at other places.
        at = (at + 0.5) * scale - 0.5
        step = np.gradient(at[1], axis=0)
        reach = np.linalg.norm(step, axis=1) / 2
        x, y = at[1, :, 0], at[1, :, 1]
        there = (x > -reach) & (x < width + reach) & (y > -reach) & (y < height + reach)
        columns = self.lowest + lines
        there &= (columns >= 0) & (columns <= WHITES) & np.isfinite(at).all(axis=(0, 2))
        grid[:, columns[there]] = at[:, there]
        return grid


def find_keyboard(
    work: Floats,
    keys: int | None = None,
    lowest: str | None = None,
    alive: Callable[[], None] = lambda: None,
) -> Keyboard | None:
    """Find the keyboard in a picture as `to_work` makes it; None if there is no trace of one.

    `keys` is how many keys the keyboard has, if known. `lowest` is the name of its lowest key, or,
    without `keys`, of the first white key in view from the player's left. Of several keyboards the
    one that is largest is taken. It is to be believed only if its confidence is `SURE` or more.
    `alive` is called every few milliseconds of the half second or so that this takes.
    """
    pyramid = Pyramid(work, alive)
    found: list[Keyboard] = []
    for seed in find_seeds(work, likely_angles(work, _ANGLES), alive)[:_SEEDS]:
        if any(_explains(keyboard, seed) for keyboard in found):
            continue
        fit = fit_seed(pyramid, plane_of_line(seed.x, seed.y, seed.dx, seed.dy))
        keyboard = _judge(pyramid, fit, keys, lowest) if fit is not None else None
        if keyboard is not None:
            found.append(keyboard)
    return max(found, key=lambda k: (k.confidence >= SURE, k.length * k.confidence), default=None)


def keyboard_at(
    work: Floats, corners: Sequence[tuple[float, float]], keys: int, lowest: str
) -> Keyboard:
    """Return the keyboard between four corners of the keys, in pixels of `work`.

    The corners are the far left, far right, near right and near left one, as the player sees them.
    The picture tells how sure it is, and the plane is moved to where it shows the blacks, if it
    does.
    """
    start = WHITE_NAMES.index(lowest)
    whites = whites_of(keys, lowest)
    first = start + 5
    cv2 = load_cv2("Finding a keyboard")
    at = np.array(
        [(first, 0), (first + whites, 0), (first + whites, FRONT_Z), (first, FRONT_Z)], np.float32
    )
    seen = np.array(corners, np.float32)
    plane = Plane(np.asarray(cv2.getPerspectiveTransform(at, seen), np.float64))
    if plane.homography[2] @ np.array([first, 0, 1.0]) < 0:
        plane = Plane(-plane.homography)
    pyramid = Pyramid(work)
    u = blacks_between(first, first + whites)
    moved = refit(pyramid, Fit(plane, first, first + whites, 1.0)).plane
    before, after = (
        float(np.mean(look(pyramid, p, u, DEPTHS, INNER).support > SUPPORTED))
        for p in (plane, moved)
    )
    if after > max(before, 0.5):
        plane, before = moved, after
    reason = "" if before > 0.5 else "the picture shows no black keys between these corners"
    return Keyboard(plane, FRONT_Z, first, whites, start, before, "given", keys, reason)


def to_work(picture: Frame) -> Floats:
    """Return the brightness of a picture, 0 to 255, its longer side `WORK_PX`.

    `picture` is uint8 (height, width, 3), or (height, width) if it is grey.
    """
    cv2 = load_cv2("Finding a keyboard")
    scale = WORK_PX / max(picture.shape[:2])
    height, width = (max(1, round(size * scale)) for size in picture.shape[:2])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(picture, (width, height), interpolation=how)
    # Light of one colour falls on keys too: the brightest channel tells white from black.
    if small.ndim == 3:
        blue, green, red = cv2.split(small)
        small = cv2.max(cv2.max(blue, green), red)
    return np.asarray(small, np.float32)


def median_of_five(pictures: Sequence[Floats]) -> Floats:
    """Return the median of five pictures, pixel by pixel, in a few milliseconds."""
    a, b, c, d, e = pictures
    low = np.maximum(np.minimum(a, b), np.minimum(c, d))
    high = np.minimum(np.maximum(a, b), np.maximum(c, d))
    return np.maximum(np.minimum(low, high), np.minimum(np.maximum(low, high), e))


def _explains(keyboard: Keyboard, seed: Seed) -> bool:
    """Tell whether a seed lies on the keys of a keyboard."""
    u = np.array([keyboard.first, keyboard.first + keyboard.whites])
    corners = keyboard.plane.pixels(u[:, None], np.array([-0.2, keyboard.front + 0.2])[None])
    if not np.isfinite(corners).all():
        return False
    cv2 = load_cv2("Finding a keyboard")
    polygon = corners[[0, 0, 1, 1], [0, 1, 1, 0]].astype(np.float32)
    middle = (seed.x + 7 * seed.dx, seed.y + 7 * seed.dy)
    return bool(cv2.pointPolygonTest(polygon, middle, False) >= 0)


def _judge(pyramid: Pyramid, fit: Fit, keys: int | None, lowest: str | None) -> Keyboard | None:
    """Return the keyboard that a fit shows, and how sure that is."""
    fit, near, far = _orient(pyramid, refit(pyramid, fit))
    plane = fit.plane
    u_seen = _in_picture(pyramid, plane, (fit.low + fit.high) / 2)
    u = blacks_between(*u_seen)
    if not len(u):
        return None
    bars = look(pyramid, plane, u, DEPTHS, INNER)
    support = bars.support
    # At the edge of the picture nothing can be told.
    u, support = u[support > -1], support[support > -1]
    ends = _ends(pyramid, plane, fit.low, fit.high)
    layout = find_layout(u, support, u_seen, keys, lowest, ends=ends)
    if layout is None:
        return None
    inside = between_lines(u, layout.first, layout.first + layout.whites)
    layout = without_hidden_ends(layout, u[inside], support[inside])
    last = layout.first + layout.whites
    inside = between_lines(u, layout.first, last)
    there = support > SUPPORTED
    outside = ~inside & (u > layout.first - 12) & (u < last + 12)
    checks = {
        "too few black keys are seen": _ramp(float((there & inside).sum()), 6, 10),
        "black keys are missing": _ramp(float(there[inside].mean()), 0.5, 0.8),
        "there are black keys beyond the ends": _ramp(
            -float((there & outside).sum() / max(5, outside.sum())), -0.5, -0.1
        ),
        "black keys are not where they should be": _ramp(-fit.misfit, -0.12, -0.06),
        "there are dark stripes between B and C or E and F": _ramp(
            -_between(pyramid, plane, u[inside]), -0.45, -0.15
        ),
        "the ends of the black keys are not seen": _ramp(ends_fit(bars), 0.2, 0.5),
        "it is not clear where the player sits": _ramp(near - far, 0.05, 0.25),
        "no front of white keys is seen": _ramp(near, 0.3, 0.6),
    }
    worst = min(checks, key=lambda name: checks[name])
    outer = plane.pixels(np.array([max(layout.first, u_seen[0]), min(last, u_seen[1])]), 0.5)
    return Keyboard(
        plane, _front(pyramid, plane, fit.low, fit.high), layout.first, layout.whites,
        layout.lowest, float(np.prod(list(checks.values())) ** 0.5), layout.octave, layout.keys,
        worst if checks[worst] < 0.9 else "", float(np.linalg.norm(outer[1] - outer[0])),
    )  # fmt: skip


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def _in_picture(pyramid: Pyramid, plane: Plane, middle: float) -> tuple[int, int]:
    """Return the first and last line around a middle that the picture shows, as u."""
    u = round(middle) + np.arange(-70, 71)
    at = plane.pixels(u, 0.5)
    there = (
        (at[:, 0] >= 0) & (at[:, 0] <= pyramid.width - 1)
        & (at[:, 1] >= 0) & (at[:, 1] <= pyramid.height - 1)
    )  # fmt: skip
    # Far from what it was fitted to, a curve may turn back.
    step = np.einsum("ij,j->i", np.gradient(at, axis=0), (at[71] - at[69]) / 2)
    there &= step > 0.3 * step[70]
    if not there[70]:
        return round(middle), round(middle)
    left = 70 - int(np.argmin(np.append(there[70::-1], False))) + 1
    right = 70 + int(np.argmin(np.append(there[70:], False))) - 1
    return int(u[left]), int(u[right])


def _orient(pyramid: Pyramid, fit: Fit) -> tuple[Fit, float, float]:
    """Return the fit with z towards the player, and how white it is beyond both ends of blacks.

    On the player's side the whites go on beyond the blacks.
    """
    whites = np.arange(int(fit.low), int(fit.high))
    near = _whiteness(pyramid, fit.plane, whites, 1.0, 1.0)
    far = _whiteness(pyramid, fit.plane, whites, 0.0, -1.0)
    if near >= far:
        return fit, near, far
    # z = 0 to 1 is to be the blacks again.
    turned = fit.plane.turned().moved(np.array([[1, 0, 0], [0, 1, -1], [0, 0, 1.0]]))
    return Fit(turned, 3 - fit.high, 3 - fit.low, fit.misfit), far, near


def _whiteness(
    pyramid: Pyramid, plane: Plane, whites: NDArray[np.int_], end: float, side: float
) -> float:
    """Return how much of the stretch beyond an end of the blacks is as bright as the whites are."""
    n = PER_WHITE
    u = (np.arange(whites[0] * n, (whites[-1] + 1) * n) + 0.5) / n
    # Lamps light one end more than the other, so the whites next to the end tell what white is.
    strip = np.median(pyramid.sample(plane, u, end - side * np.arange(0.06, 0.25, 0.03)), axis=0)
    level = np.quantile(strip.reshape(-1, n), 0.8, axis=1)
    if not np.isfinite(level).any():
        return 0.0
    level = np.where(np.isfinite(level), level, np.nanmedian(level))
    padded = np.pad(level, 3, mode="edge")
    level = np.array([np.median(padded[i : i + 7]) for i in range(len(level))])
    z = end + side * np.arange(0.08, 0.46, 0.04)
    middles = whites[:, None] + np.arange(0.15, 0.9, 0.1)[None]
    beyond = pyramid.sample(plane, middles.ravel(), z).reshape(len(z), *middles.shape)
    share = beyond / np.maximum(level, 1)[None, :, None]
    known = np.isfinite(share)
    return float(((share > 0.65) & (share < 1.8))[known].mean()) if known.any() else 0.0


def _front(pyramid: Pyramid, plane: Plane, low: float, high: float) -> float:
    """Return the z of the front ends of the whites."""
    whites = np.arange(int(low), int(high))
    z = np.arange(1.0, 2.3, 0.02)
    u = whites[:, None] + np.arange(0.3, 0.75, 0.1)[None]
    strip = pyramid.sample(plane, u.ravel(), z).reshape(len(z), *u.shape).mean(axis=2)
    strip = strip[:, np.isfinite(strip[z < 1.25]).all(axis=0)]
    begin = np.median(strip[(z > 1.05) & (z < 1.2)], axis=0)
    dark = strip < 0.62 * begin[None]
    dark[z < 1.25] = False
    ends = np.where(dark.any(0), z[np.argmax(dark, axis=0)], np.nan)
    ends = ends[np.isfinite(ends)]
    if len(ends) < 4:
        return FRONT_Z
    # Hands hide some: take what most agree on, near where fronts are on most pianos.
    votes = np.exp(-0.5 * ((z[:, None] - ends[None]) / 0.03) ** 2).sum(1)
    votes = votes * np.exp(-0.5 * ((z - FRONT_Z) / 0.15) ** 2)
    best = float(z[np.argmax(votes)])
    close = np.abs(ends - best) < 0.08
    return float(np.median(ends[close])) if close.any() else best


def _ends(pyramid: Pyramid, plane: Plane, low: float, high: float) -> tuple[int | None, int | None]:
    """Return the lines at which the white fronts end, near those between which blacks are seen.

    None where they go on to the edge of the picture, or what follows cannot be told.
    """
    whites = np.arange(int(low) - 5, int(high) + 5)
    u = whites[:, None] + np.arange(0.15, 0.9, 0.1)[None]
    z = np.arange(1.08, 1.42, 0.04)
    strip = pyramid.sample(plane, u.ravel(), z).reshape(len(z), *u.shape)
    known = np.isfinite(strip).mean(axis=(0, 2)) > 0.25
    light = np.array([np.nanmedian(strip[:, i]) if known[i] else np.nan for i in range(len(u))])
    found: list[int | None] = []
    for side in (-1, 1):
        # From within the keyboard outwards.
        values = light[::side]
        lines = (whites if side < 0 else whites + 1)[::side]
        end = None
        for at in range(len(values) // 2, len(values)):
            if not np.isfinite(values[at]):
                break
            inner = values[at - 3 : at]
            if at > len(values) - 12 and values[at] < 0.5 * np.median(inner):
                # The last white before this one that is not.
                rest = values[at : at + 2]
                dark = (rest < 0.5 * np.median(inner))[np.isfinite(rest)]
                end = int(lines[at - 1]) if dark.all() else None
                break
        found.append(end)
    return found[0], found[1]


def _between(pyramid: Pyramid, plane: Plane, u: Doubles) -> float:
    """Return between how many E and F, and B and C, it is as dark as on blacks, as a share."""
    if not len(u):
        return 1.0
    lines = np.arange(np.floor(u.min()), np.ceil(u.max()) + 1)
    lines = lines[np.isin(lines % 7, (0, 3))]
    lines = lines[(lines > u.min() - 0.1) & (lines < u.max() + 0.1)]
    if not len(lines):
        return 1.0
    z = DEPTHS[INNER]

    def mean(at: Doubles, offsets: Doubles) -> Doubles:
        points = at[:, None] + offsets[None]
        strip = pyramid.sample(plane, points.ravel(), z).reshape(len(z), *points.shape)
        return np.asarray(strip.mean(axis=(0, 2)), np.float64)

    width = np.linspace(-0.25, 0.25, 9)
    there, white = mean(lines, width), mean(lines, np.array([-0.45, -0.4, 0.4, 0.45]))
    at = u[[int(np.argmin(np.abs(u - line))) for line in lines]]
    black = mean(at, width)
    depth = np.maximum(white - black, 3.0)
    share = np.clip((white - there) / depth, -1, 1)
    known = np.isfinite(share)
    return float((share[known] > 0.5).mean()) if known.any() else 1.0
