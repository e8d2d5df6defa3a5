"""Finds the keys of a piano keyboard in one picture. No learning: the pattern of the blacks is it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.music.fitting import (
    DEPTHS,
    PER_WHITE,
    Bars,
    Fit,
    Pyramid,
    blacks_between,
    fit_seed,
    grow,
    look,
    refit,
)
from stream.music.keyboard import KEY_NAMES, WHITES, KeyGrid, no_grid
from stream.music.plane import Doubles, Plane, plane_of_line
from stream.music.seeds import WORK_PX, Seed, find_seeds, likely_angles
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

Floats = NDArray[np.float32]

SIZES = {88: "A0", 76: "E1", 61: "C2", 49: "C2", 37: "C3", 25: "C3"}
"""Numbers of keys that keyboards have, and their lowest key where a maker has not shifted it."""

WHITE_NAMES = tuple(name for name in KEY_NAMES if "#" not in name)
"""(52,) Names of the white keys, A0 to C8."""

SURE = 0.5
"""Confidence from which a keyboard counts as found."""

_LEAST_BLACKS = 9
_FRONT_Z = 1.55


class Found(NamedTuple):
    """What was found in a picture.

    Attributes
    ----------
    grid
        Where the keys are, in pixels of the picture; NaN if there is no keyboard.
    confidence
        0 to 1; a keyboard from `SURE` on.
    octave
        How it is known which octave is which: `seen` by an end of the keyboard, `given` by the
        settings, or `assumed`: middle C is near the middle. Empty if there is no keyboard.
    keys
        How many keys the keyboard seems to have.
    reason
        What speaks against it, where it is not sure; else empty.
    """

    grid: KeyGrid
    confidence: float
    octave: str
    keys: int
    reason: str = ""


def nothing(reason: str) -> Found:
    """Return what is found where there is no keyboard."""
    return Found(no_grid(), 0.0, "", 0, reason)


class _Candidate(NamedTuple):
    """A keyboard that a picture may show."""

    plane: Plane
    levels: tuple[float, float, float]
    first: int  # u of the left line
    whites: int
    lowest: int  # index of the lowest white among the 52
    confidence: float
    octave: str
    keys: int
    reason: str
    size: float
    seen: float = 0.0


def find_keyboard(
    picture: Frame, *, keys: int | None = None, lowest: str | None = None
) -> Found:
    """Find the keyboard in a picture: uint8 (height, width, 3), or (height, width) if it is grey.

    `keys` is how many the keyboard has, if known, `lowest` the name of the first white key in view
    from the player's left. Of several keyboards the one that is largest is taken.

    Raises
    ------
    ConfigError
        There is no keyboard of that many keys, or no white key of that name.
    """
    check_layout(keys, lowest)
    grey, scale = to_grey(picture)
    if min(grey.shape) < 32:
        return nothing("the picture is too small")
    work = _scaled(grey, WORK_PX / max(grey.shape))
    back = max(grey.shape) / WORK_PX / scale
    pyramid = Pyramid(work)
    candidates: list[_Candidate] = []
    angles = likely_angles(work, 3)
    for seed in find_seeds(work, angles)[:10]:
        if any(_explains(candidate, seed) for candidate in candidates):
            continue
        fit = fit_seed(pyramid, plane_of_line(seed.x, seed.y, seed.dx, seed.dy))
        if fit is not None:
            candidates.append(_judge(pyramid, fit, keys, lowest))
    if not candidates:
        return nothing("nothing in the picture has the pattern of black keys")
    best = max(candidates, key=lambda c: (c.confidence >= SURE, c.size * c.confidence))
    return Found(
        _grid(best, pyramid, back), best.confidence, best.octave, best.keys, best.reason
    )


def check_layout(keys: int | None, lowest: str | None) -> None:
    """Refuse a number of keys, or a name of a key, that no keyboard has.

    Raises
    ------
    ConfigError
        There is no keyboard of that many keys, or no white key of that name.
    """
    if keys is not None and keys not in SIZES:
        raise ConfigError(
            f"keys: a keyboard of {keys} keys is not known; there are"
            f" {', '.join(map(str, SIZES))}. For another, name the first white key in view with"
            " 'lowest'."
        )
    if lowest is not None and lowest not in WHITE_NAMES:
        raise ConfigError(
            f"lowest: '{lowest}' is no white key; these are named {WHITE_NAMES[0]} to"
            f" {WHITE_NAMES[-1]}, middle C is C4."
        )


def to_grey(picture: Frame) -> tuple[Floats, float]:
    """Return the brightness (h, w) of a picture, made smaller if it is large, and the scale."""
    # Light of one colour falls on keys too: the brightest channel tells white from black.
    grey = picture if picture.ndim == 2 else picture.max(axis=2)
    scale = min(1.0, 1920 / max(grey.shape))
    values: Floats = grey.astype(np.float32)
    return (_scaled(values, scale) if scale < 1 else values), scale


def _scaled(grey: Floats, scale: float) -> Floats:
    cv2 = load_cv2("Finding a keyboard")
    height, width = (max(1, round(size * scale)) for size in grey.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled: Floats = cv2.resize(grey, (width, height), interpolation=how)
    return scaled


def _explains(candidate: _Candidate, seed: Seed) -> bool:
    """Tell whether a seed lies on the keys of a candidate."""
    u = np.array([candidate.first, candidate.first + candidate.whites])
    far, _, front = candidate.levels
    corners = candidate.plane.pixels(u[:, None], np.array([far - 0.2, front + 0.2])[None])
    if not np.isfinite(corners).all():
        return False
    cv2 = load_cv2("Finding a keyboard")
    polygon = corners[[0, 0, 1, 1], [0, 1, 1, 0]].astype(np.float32)
    middle = (seed.x + 7 * seed.dx, seed.y + 7 * seed.dy)
    return bool(cv2.pointPolygonTest(polygon, middle, False) >= 0)


def _judge(pyramid: Pyramid, fit: Fit, keys: int | None, lowest: str | None) -> _Candidate:
    plane, near, far_side = _orient(pyramid, fit)
    low, high = (fit.low, fit.high) if plane is fit.plane else (3 - fit.high, 3 - fit.low)
    plane, low, high, misfit = refit(pyramid, Fit(plane, low, high, fit.misfit))
    u_seen = _in_picture(pyramid, plane, (low + high) / 2)
    u = blacks_between(*u_seen)
    bars = look(pyramid, plane, u, DEPTHS, _INNER)
    layout = _layout(u, bars.support, u_seen, keys, lowest, (low, high))
    if layout is None:
        return _Candidate(
            plane, (0, 1, _FRONT_Z), int(low), int(high - low), 0, 0.0, "", 0,
            "no layout of keys fits", 0.0,
        )
    inside = (u > layout.first) & (u < layout.first + layout.whites)
    layout = _cut(layout, u[inside], bars.support[inside])
    inside = (u > layout.first) & (u < layout.first + layout.whites)
    front, front_sure = _front(pyramid, plane, low, high)
    support = np.clip(bars.support, 0, 1)
    share_in = float(np.mean(support[inside] > 0.6)) if inside.any() else 0.0
    outside = ~inside & (np.abs(u - layout.first - layout.whites / 2) < layout.whites / 2 + 12)
    share_out = float((support[outside] > 0.6).sum() / max(5, outside.sum()))
    between = _between(pyramid, plane, u[inside], bars)
    count = int((support[inside] > 0.6).sum())
    checks = {
        "too few black keys are seen": _ramp(count, 6, 10),
        "black keys are missing": _ramp(share_in, 0.45, 0.8),
        "there are black keys beyond the ends": _ramp(-share_out, -0.5, -0.1),
        "black keys are not where they should be": _ramp(-misfit, -0.12, -0.06),
        "there are dark stripes between B and C or E and F": _ramp(-between, -0.7, -0.4),
        "it is not clear where the player sits": _ramp(near - far_side, 0.1, 0.4),
        "no front of white keys is seen": _ramp(near, 0.3, 0.6),
    }
    confidence = float(np.prod(list(checks.values())) ** 0.5)
    worst = min(checks, key=lambda name: checks[name])
    length = np.linalg.norm(
        np.diff(plane.pixels(np.array([max(low, u_seen[0]), min(high, u_seen[1])]), 0.5), axis=0)
    )
    return _Candidate(
        plane, (0.0, 1.0, front), layout.first, layout.whites, layout.lowest, confidence,
        layout.octave, layout.keys, worst if checks[worst] < 0.9 else "", float(length),
    )


_INNER = slice(int(np.searchsorted(DEPTHS, 0.2)), int(np.searchsorted(DEPTHS, 0.85)))


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


def _orient(pyramid: Pyramid, fit: Fit) -> tuple[Plane, float, float]:
    """Return the plane with z towards the player, and how white it is beyond both ends of blacks.

    On the player's side the whites go on beyond the blacks.
    """
    whites = np.arange(int(fit.low), int(fit.high))
    near = _whiteness(pyramid, fit.plane, whites, 1.0, 1.0)
    far = _whiteness(pyramid, fit.plane, whites, 0.0, -1.0)
    if near >= far:
        return fit.plane, near, far
    # z = 0 to 1 is to be the blacks again.
    turned = fit.plane.turned().moved(np.array([[1, 0, 0], [0, 1, -1], [0, 0, 1.0]]))
    return turned, far, near


def _whiteness(
    pyramid: Pyramid, plane: Plane, whites: NDArray[np.int_], end: float, side: float
) -> float:
    """Return how much of the stretch beyond an end of the blacks is as bright as the whites are."""
    n = PER_WHITE
    u = (np.arange(whites[0] * n, (whites[-1] + 1) * n) + 0.5) / n
    # Lamps light one end more than the other, so the whites next to the end tell what white is.
    strip = np.median(pyramid.sample(plane, u, end - side * np.arange(0.06, 0.25, 0.03)), axis=0)
    level = np.quantile(strip.reshape(-1, n), 0.8, axis=1)
    padded = np.pad(level, 3, mode="edge")
    level = np.array([np.nanmedian(padded[i : i + 7]) for i in range(len(level))])
    z = end + side * np.arange(0.08, 0.46, 0.04)
    middles = whites[:, None] + np.arange(0.15, 0.9, 0.1)[None]
    beyond = pyramid.sample(plane, middles.ravel(), z).reshape(len(z), *middles.shape)
    share = beyond / np.maximum(level, 1)[None, :, None]
    known = np.isfinite(share)
    return float(((share > 0.65) & (share < 1.8))[known].mean()) if known.any() else 0.0


def _front(pyramid: Pyramid, plane: Plane, low: float, high: float) -> tuple[float, float]:
    """Return the z of the front ends of the whites, and the share of whites that agree."""
    whites = np.arange(int(low), int(high))
    z = np.arange(1.0, 2.3, 0.02)
    u = whites[:, None] + np.arange(0.3, 0.75, 0.1)[None]
    strip = np.nanmean(pyramid.sample(plane, u.ravel(), z).reshape(len(z), *u.shape), axis=2)
    begin = np.nanmedian(strip[(z > 1.05) & (z < 1.2)], axis=0)
    dark = strip < 0.62 * begin[None]
    dark[z < 1.25] = False
    ends = np.where(dark.any(0), z[np.argmax(dark, axis=0)], np.nan)
    ends = ends[np.isfinite(ends)]
    if len(ends) < 4:
        return _FRONT_Z, 0.0
    # Hands hide some: take what most agree on, near where fronts are on most pianos.
    votes = np.exp(-0.5 * ((z[:, None] - ends[None]) / 0.03) ** 2).sum(1)
    votes = votes * np.exp(-0.5 * ((z - _FRONT_Z) / 0.15) ** 2)
    best = float(z[np.argmax(votes)])
    close = np.abs(ends - best) < 0.08
    return float(np.median(ends[close])) if close.any() else best, float(close.mean())


def _between(pyramid: Pyramid, plane: Plane, u: Doubles, bars: Bars) -> float:
    """Return how dark it is between E and F and between B and C, as a share of the blacks' depth."""
    if not len(u):
        return 1.0
    lines = np.arange(np.floor(u.min()), np.ceil(u.max()) + 1)
    lines = lines[np.isin(lines % 7, (0, 3))]
    lines = lines[(lines > u.min() - 0.1) & (lines < u.max() + 0.1)]
    if not len(lines):
        return 1.0
    z = DEPTHS[_INNER]

    def mean(at: Doubles, offsets: Doubles) -> Doubles:
        points = at[:, None] + offsets[None]
        return pyramid.sample(plane, points.ravel(), z).reshape(len(z), *points.shape).mean((0, 2))

    width = np.linspace(-0.25, 0.25, 9)
    there, white = mean(lines, width), mean(lines, np.array([-0.45, -0.4, 0.4, 0.45]))
    at = u[[int(np.argmin(np.abs(u - line))) for line in lines]]
    black = mean(at, width)
    depth = np.maximum(white - black, 3.0)
    return float(np.nanmedian(np.clip((white - there) / depth, -1, 1)))


@dataclass(frozen=True)
class _Layout:
    first: int
    whites: int
    lowest: int
    octave: str
    keys: int


def _layout(
    u: Doubles,
    support: Floats,
    seen: tuple[int, int],
    keys: int | None,
    lowest: str | None,
    extent: tuple[float, float],
) -> _Layout | None:
    """Return which keys these are, from where the pattern stops."""
    evidence = np.clip(support, 0.0, 0.9) - 0.45
    scored: list[tuple[float, int, int, int]] = []  # score, first, whites, keys
    for number in (keys,) if keys else SIZES:
        count = _whites_of(number)
        start = WHITE_NAMES.index(SIZES[number])
        # The names begin with A0, the pattern with C.
        phase = (start + 5) % 7
        for first in range(seen[0] - count, seen[1] + 1):
            if first % 7 != phase:
                continue
            inside = (u > first) & (u < first + count)
            if not inside.any():
                continue
            score = float(evidence[inside].sum() - evidence[~inside].sum())
            # Most keyboards have all keys.
            scored.append((score - 0.6 * (number != 88), first, count, number))
    if not scored:
        return None
    scored.sort(reverse=True)
    score, first, count, number = scored[0]
    if lowest is not None:
        left = max(first, seen[0])
        index = WHITE_NAMES.index(lowest)
        # The first white key in view of that name's pattern.
        left += (index + 5 - left) % 7
        shown = min(first + count, seen[1]) - left
        return _Layout(left, min(shown, WHITES - index), index, "given", number)
    close = [other for other in scored if other[0] > score - 1.2]
    starts = {at - WHITE_NAMES.index(SIZES[n]) for _, at, _, n in close}
    octave = "seen"
    if len(starts) > 1:
        octave = "assumed"
        # Middle C is near the middle of what is seen.
        middle = (max(first, seen[0]) + min(first + count, seen[1])) / 2
        c4 = WHITE_NAMES.index("C4")
        same = [o for o in close if o[3] == number and o[0] > score - 0.3]
        score, first, count, number = min(
            same, key=lambda o: abs(o[1] - WHITE_NAMES.index(SIZES[o[3]]) + c4 + 0.5 - middle)
        )
    if keys:
        octave = octave if octave == "assumed" else "seen"
    return _Layout(first, count, WHITE_NAMES.index(SIZES[number]), octave, number)


def _cut(layout: _Layout, u: Doubles, support: Floats) -> _Layout:
    """Return the layout without ends that are covered, or beyond the edge of a picture in it."""
    there = u[support > 0.6]
    if not len(there):
        return layout
    first, last = layout.first, layout.first + layout.whites
    low, high = first, last
    if (u < there[0]).sum() >= 3:
        low = int(np.floor(there[0] - 0.3))
    if (u > there[-1]).sum() >= 3:
        high = int(np.ceil(there[-1] + 0.3))
    return replace(
        layout, first=low, whites=high - low, lowest=layout.lowest + low - first
    )


def _whites_of(keys: int) -> int:
    start = KEY_NAMES.index(SIZES[keys])
    return sum("#" not in name for name in KEY_NAMES[start : start + keys])


def _grid(found: _Candidate, pyramid: Pyramid, back: float) -> KeyGrid:
    """Return the grid in pixels of the picture; lines more than half a key outside are left out."""
    grid = no_grid()
    lines = np.arange(found.whites + 1)
    at = found.plane.pixels(
        found.first + lines[None, :], np.array(found.levels)[:, None]
    )
    width = np.nanmedian(np.linalg.norm(np.diff(at[1], axis=0), axis=-1))
    x, y = at[1, :, 0], at[1, :, 1]
    there = (
        (x > -width / 2) & (x < pyramid.width - 1 + width / 2)
        & (y > -width / 2) & (y < pyramid.height - 1 + width / 2)
    )  # fmt: skip
    columns = found.lowest + lines[there]
    fit = columns <= WHITES
    # Pixel centres of the smaller picture lie at other places.
    grid[:, columns[fit]] = ((at[:, there] + 0.5) * back - 0.5)[:, fit]
    return grid
