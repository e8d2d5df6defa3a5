"""From a first guess to the plane of all keys that a picture shows: fit, extend, fit again."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.music.finder.bars import (
    DEPTHS,
    INNER,
    SUPPORTED,
    Bars,
    Pyramid,
    blacks_between,
    centres,
    look,
    runs,
)
from stream.music.finder.plane import Doubles, Floats, Plane

_FAR_OFF = 70


class Fit(NamedTuple):
    """A plane whose blacks lie at z 0 to 1 between two lines.

    Attributes
    ----------
    plane
        Its z is 0 at the far ends of the blacks and 1 at their front ends, or the other way round.
    low, high
        The white keys between these lines were supported by the picture, as u.
    misfit
        Root mean square distance of the blacks from where they should be, in white widths.
    """

    plane: Plane
    low: float
    high: float
    misfit: float


def fit_seed(pyramid: Pyramid, plane: Plane, low: float = 0, high: float = 14) -> Fit | None:
    """Return the plane of the keyboard of which two octaves lie on the line z = 0; None if none is.

    `plane` is seen from straight above.
    """
    u = blacks_between(low, high)
    z = np.arange(-6, 6.01, 0.25)
    middle = len(z) // 2
    for _ in range(3):
        bars = look(pyramid, plane, u, z, slice(middle - 1, middle + 2))
        good = bars.support > 0.4
        if good.sum() < 6:
            return None
        e, known = centres(bars, slice(middle - 1, middle + 2))
        use = good & known
        if use.sum() < 5:
            return None
        offset, slope, _ = _robust_line(u, np.where(use, e, np.nan), 0.1)
        top, bottom = runs(bars.contrast, z, slice(middle - 1, middle + 2))
        tops = _robust_line(u, np.where(good, top, np.nan), 0.3)
        bottoms = _robust_line(u, np.where(good, bottom, np.nan), 0.3)
        # The end that is better defined tells how the line is to be turned.
        tilt = tops[1] if tops[2].sum() > bottoms[2].sum() else bottoms[1]
        centre = (u.min() + u.max()) / 2
        ends = [line[0] + line[1] * centre for line in (tops, bottoms)]
        if not np.isfinite(ends).all():
            return None
        shift = (ends[0] + ends[1]) / 2
        change = np.array([[1 + slope, 0, offset], [tilt, 1, shift - tilt * centre], [0, 0, 1]])
        plane = plane.moved(change)
    length = ends[1] - ends[0]
    if not 0.8 < length < 9:
        return None
    # From here on the blacks lie between z = 0 and z = 1.
    plane = plane.moved(np.array([[1, 0, 0], [0, length, -length / 2], [0, 0, 1]]))
    return grow(pyramid, plane, low, high)


def grow(pyramid: Pyramid, plane: Plane, low: float, high: float) -> Fit | None:
    """Fit the plane to the blacks between two lines, and take in neighbours while they fit."""
    misfit = 1.0
    # Step by step while the fit is rough, then further, to what is seen beyond a hand.
    for reach in (0, 7, 21):
        settled = 0
        for _ in range(16):
            u = blacks_between(max(low - reach, -_FAR_OFF), min(high + reach, _FAR_OFF))
            bars = look(pyramid, plane, u, DEPTHS, INNER, slack=True)
            old, (low, high) = (low, high), _extent(u, bars.support, low, high)
            inside = (u > low - 0.01) & (u < high + 0.01)
            seen = inside & (bars.support > SUPPORTED)
            if seen.sum() < 5:
                return None
            longer = _lengthened(plane, bars, seen)
            if longer is not None:
                plane = longer
                continue
            before = misfit
            plane, misfit = _adjust(
                plane, bars, inside & (bars.support > 0.4), low, high, scale=0.15
            )
            if not np.isfinite(misfit):
                return None
            settled = settled + 1 if (low, high) == old and misfit > before - 3e-3 else 0
            if settled == (2 if reach else 1):
                break
    return Fit(plane, low, high, misfit)


def _lengthened(plane: Plane, bars: Bars, use: NDArray[np.bool_]) -> Plane | None:
    """Return the plane with z = 0 and 1 at the ends of most blacks; None if they are near already.

    Where the first guess was made a hand or a lamp may have cut all blacks short.
    """
    top, bottom = runs(bars.contrast, DEPTHS, INNER, limited=True)
    known = use & np.isfinite(top) & np.isfinite(bottom)
    if known.sum() < 5:
        return None
    far, near = float(np.median(top[known])), float(np.median(bottom[known]))
    if max(abs(far), abs(near - 1)) < 0.1 or near - far < 0.2:
        return None
    return plane.moved(np.array([[1, 0, 0], [0, near - far, far], [0, 0, 1.0]]))


def refit(pyramid: Pyramid, fit: Fit) -> Fit:
    """Return the fit with its last small errors taken out, its stretch of keys unchanged."""
    plane, misfit = fit.plane, fit.misfit
    u = blacks_between(fit.low, fit.high)
    for scale in (0.15, 0.15, 0.15, 0.08):
        bars = look(pyramid, plane, u, DEPTHS, INNER, slack=True)
        longer = _lengthened(plane, bars, bars.support > SUPPORTED)
        if longer is not None:
            plane = longer
            continue
        moved, now = _adjust(plane, bars, bars.support > 0.4, fit.low, fit.high, scale=scale)
        if not np.isfinite(now):
            break
        plane, misfit = moved, now
    return Fit(plane, fit.low, fit.high, misfit)


def follow(pyramid: Pyramid, plane: Plane, low: float, high: float) -> tuple[Plane, Bars]:
    """Return the plane moved to where the next picture shows the keys, and what it showed there.

    That is cheap, and works for movements of less than a third of a white key.
    """
    bars = look(pyramid, plane, blacks_between(low, high), DEPTHS, INNER, slack=True)
    use = bars.support > SUPPORTED
    if use.sum() < 5:
        return plane, bars
    moved, misfit = _adjust(plane, bars, use, low, high, scale=0.15)
    return (moved if np.isfinite(misfit) else plane), bars


def _extent(u: Doubles, support: Floats, low: float, high: float) -> tuple[float, float]:
    """Return the lines between which most blacks are supported, not far beyond the old ones."""
    evidence = np.clip(support, 0.0, 0.9) - 0.3
    middle = (low + high) / 2
    # A hand hides some; what is seen beyond it must outweigh these.
    ends = []
    for side in (-1, 1):
        order = np.argsort(side * u)
        order = order[side * (u[order] - middle) >= 0]
        total = np.cumsum(evidence[order])
        ends.append(u[order[int(np.argmax(total))]] if len(order) else middle)
    return float(np.floor(ends[0] - 0.3)), float(np.ceil(ends[1] + 0.3))


def _adjust(
    plane: Plane,
    bars: Bars,
    use: NDArray[np.bool_],
    low: float,
    high: float,
    *,
    scale: float,
) -> tuple[Plane, float]:
    """Return the plane moved to where the blacks are, and how far these were off before.

    Blacks that are off by more than `scale` count less and less.
    """
    middle = (low + high) / 2
    plane = _about(plane, middle)
    span = max(7.0, (high - low) / 2)
    x = (bars.u - middle) / span
    n, knots = len(x), len(plane.knots_u)
    hats = np.stack([np.interp(bars.u, plane.knots_u, row) for row in np.eye(knots)], 1)
    # Few keys are no reason to believe that they are bent.
    bends = high - low > 20
    rows: list[Doubles] = []
    values: list[Doubles] = []
    weights: list[Doubles] = []
    one, none = np.ones(n), np.zeros(n)
    flat = np.zeros((n, knots))

    # A change of a homography near the identity: a0 + a1 u + a2 z + u (g u + h z), and as much for
    # z; then how much lines bend, and how much keys lie aside.
    errors = []
    for z in (0.2, 0.4, 0.6, 0.8):
        at = int(np.searchsorted(DEPTHS, z - 0.01))
        e, known = centres(bars, slice(at - 2, at + 3))
        ok = use & known
        row = [one, x, one * z, none, none, none, span * x * x, span * x * z, none]
        rows.append(np.column_stack([*row, hats]))
        values.append(np.where(ok, e, 0))
        weights.append(np.where(ok, 1.0, 0.0))
        errors.append(e[ok])
    top, bottom = runs(bars.contrast, DEPTHS, INNER)
    for z, found in ((0.0, top), (1.0, bottom)):
        ok = use & np.isfinite(found)
        row = [none, none, none, one, x, one * z, z * x, one * z * z, x * x]
        rows.append(np.column_stack([*row, flat]))
        values.append(np.where(ok, found - z, 0))
        weights.append(np.where(ok, 1.0, 0.0))
    joined = np.concatenate(errors)
    if len(joined) < 5:
        return plane, float("nan")
    a, y, w = np.concatenate(rows), np.concatenate(values), np.concatenate(weights)
    along = np.repeat([True] * 4 + [False] * 2, n)
    prior, right = _prior(plane, float(use.sum()), span, bends)
    solution = np.zeros(a.shape[1])
    for _ in range(5):
        r = y - a @ solution
        # Along the keys the ends of the blacks are less certain, and hands hide them.
        soft = w / (1 + (r / np.where(along, scale, 0.06)) ** 2) * np.where(along, 1.0, 0.4)
        left = (a * soft[:, None]).T @ a
        solution = np.linalg.solve(left + prior, a.T @ (soft * y) + right)
    a0, a1, a2, b0, b1, b2, g, h, bow = solution[:9]
    change = np.array([[1 + a1 / span, a2, a0], [b1 / span, 1 + b2, b0], [-g / span, -h, 1.0]])
    to_middle = np.array([[1, 0, middle], [0, 1, 0], [0, 0, 1.0]])
    from_middle = np.array([[1, 0, -middle], [0, 1, 0], [0, 0, 1.0]])
    plane = replace(
        plane, bow=plane.bow + bow / span**2, knots_shift=plane.knots_shift + solution[9:]
    )
    plane = plane.moved(to_middle @ change @ from_middle)
    # Some are hidden by hands; what the others do is what counts.
    worst = np.quantile(np.abs(joined), 0.9)
    return plane, float(np.sqrt(np.mean(joined[np.abs(joined) <= worst] ** 2)))


def _prior(plane: Plane, known: float, span: float, bends: bool) -> tuple[Doubles, Doubles]:
    """Return what is known of changes beforehand: matrix and right side of normal equations."""
    size = 9 + len(plane.knots_u)
    prior, right = np.zeros((size, size)), np.zeros(size)
    diagonal = np.arange(9)
    prior[diagonal, diagonal] = known * np.array([1e-6] * 6 + [1e-3, 1e-3, 0])
    noise = 0.1
    bow = (noise / (0.05 * (span / 26) ** 2)) ** 2 if bends else 1e9
    prior[8, 8] = bow
    right[8] = -bow * plane.bow * span**2 if bends else 0.0
    # Bent keyboards are so smoothly; where nothing is seen they go on straight.
    second = np.diff(np.eye(len(plane.knots_u)), 2, axis=0)
    smooth = (noise / 0.2) ** 2 * second.T @ second + (noise / 1.0) ** 2 * np.eye(second.shape[1])
    smooth = smooth if bends else 1e9 * np.eye(second.shape[1])
    prior[9:, 9:] = smooth
    right[9:] = -smooth @ plane.knots_shift if bends else 0.0
    return prior, right


def _about(plane: Plane, middle: float) -> Plane:
    """Return nearly the same plane, its bow counted from another middle."""
    if plane.bow == 0:
        return replace(plane, middle=middle)
    # (o + d)^2 = o^2 + 2 d o + d^2, of which the last two are a homography's.
    d, q = middle - plane.middle, plane.bow
    change = np.array([[1, 0, 0], [2 * q * d, 1, q * d * d - 2 * q * d * middle], [0, 0, 1.0]])
    return replace(plane.moved(change), middle=middle)


def _robust_line(u: Doubles, values: Doubles, scale: float) -> tuple[float, float, Doubles]:
    """Return offset and slope of a line through most values, and the weights (k,) that they got."""
    known = np.isfinite(values)
    if known.sum() < 2:
        return float("nan"), 0.0, np.zeros(len(u))
    x, y = u[known], values[known]
    i, j = np.triu_indices(len(x), 1)
    far = np.abs(x[j] - x[i]) > 2.5
    slope = float(np.median((y[j] - y[i])[far] / (x[j] - x[i])[far])) if far.any() else 0.0
    offset = float(np.median(y - slope * x))
    weights = np.zeros(len(u))
    weights[known] = 1 / (1 + ((y - offset - slope * x) / scale) ** 2)
    w = weights[known]
    for _ in range(3):
        a = np.stack([np.ones_like(x), x], 1) * w[:, None] ** 0.5
        offset, slope = np.linalg.lstsq(a, y * w**0.5, rcond=None)[0]
        w = 1 / (1 + ((y - offset - slope * x) / scale) ** 2)
    weights[known] = w
    return float(offset), float(slope), weights
