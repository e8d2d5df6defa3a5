"""The skeleton of the PC algorithm, on a correlation matrix, many tests at a time.

PC-stable (Colombo & Maathuis, JMLR 15, 2014): a pair is taken apart as soon as some set of the
neighbours of one of them makes it independent; sets of one size are tried against the neighbours as
they were before that size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from stream.connectome.graph import Bools, Floats, fisher_z, normal_z

SUBSETS = 64
"""Sets of one size that a pair is tested against at most: those of the strongest neighbours."""
TESTS = 100_000
"""Tests of one size, roughly: with many units and neighbours a pair has fewer sets."""
LEAST_TESTS = 512
"""Tests of one size that each unit gets all the same."""
MAX_GIVEN = 3
_CHUNK = 16384
_SINGULAR = 1e-9

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Skeleton:
    """Which variables are adjacent, and by which sets the others are apart.

    Attributes
    ----------
    adjacent
        bool (targets, d).
    z
        float64 (targets, d): the smallest |z| of all tests of the pair.
    apart
        int64 (targets, d, MAX_GIVEN): the set that made the pair independent, filled up with -1.
    tests
        How many tests were made.
    """

    adjacent: Bools
    z: Floats
    apart: Ints
    tests: int


def idle() -> None:
    """Do nothing."""


def skeleton(
    corr: Floats, rows: float, alpha: float, targets: int, alive: Callable[[], None] = idle
) -> Skeleton:
    """Find which variables are adjacent to each of the first `targets` ones.

    Pairs of two later variables are not looked at. A pair of two targets is given the neighbours of
    either.

    Parameters
    ----------
    corr
        Correlations (d, d).
    rows
        Independent rows that they come from.
    alpha
        Level of each test.
    targets
        How many variables to find the neighbours of.
    alive
        Called every few milliseconds meanwhile.
    """
    critical = normal_z(alpha)
    d = len(corr)
    z = np.abs(fisher_z(corr[:targets], rows, 0))
    z[np.arange(targets), np.arange(targets)] = 0.0
    adjacent = z >= critical
    apart = np.full((targets, d, MAX_GIVEN), -1, dtype=np.int64)
    tests = targets * d
    for given in range(1, MAX_GIVEN + 1):
        degrees = adjacent.sum(axis=1)
        if rows - given - 3 < 1 or degrees.max(initial=0) < given + 1:
            break
        smallest, sets, made = _level(corr, rows, adjacent, z, given=given, alive=alive)
        tests += made
        # Between two targets, the test that speaks more for independence counts.
        among = smallest[:, :targets]
        better = among > among.T
        smallest[:, :targets] = np.where(better, among.T, among)
        sets[:, :targets][better] = sets[:, :targets].transpose(1, 0, 2)[better]
        fell = adjacent & (smallest < critical)
        apart[fell, :given] = sets[fell]
        adjacent = adjacent & ~fell
        z = np.minimum(z, smallest)
    return Skeleton(adjacent, z, apart, tests)


def _level(
    corr: Floats,
    rows: float,
    adjacent: Bools,
    z: Floats,
    *,
    given: int,
    alive: Callable[[], None],
) -> tuple[Floats, Ints, int]:
    """Test all pairs against sets of one size; return the smallest |z|, its set, how many tests."""
    smallest = np.full(adjacent.shape, np.inf)
    sets = np.full((*adjacent.shape, given), -1, dtype=np.int64)
    tests = 0
    degrees = adjacent.sum(axis=1)
    order = np.argsort(np.where(adjacent, -z, np.inf), axis=1)
    most = max(TESTS // len(z), LEAST_TESTS)
    sizes = np.minimum(_rounded(degrees), adjacent.shape[1])
    for size in np.unique(sizes[degrees > given]):
        pairs, members, starts = _pattern(int(size), given, most)
        which = np.flatnonzero((sizes == size) & (degrees > given))
        step = max(1, _CHUNK // len(pairs))
        for begin in range(0, len(which), step):
            alive()
            at = which[begin : begin + step]
            near = order[at, :size]
            x, s = near[:, pairs], near[:, members]
            found = squared_partial(corr, at[:, None], x, s)
            # Variables of about as many neighbours go together; what one lacks proves nothing.
            found[members.max(axis=1) >= degrees[at, None]] = 1.0
            tests += found.size
            least = np.minimum.reduceat(found, starts, axis=1)
            first = _first_of(found, least, starts)
            row, column = np.nonzero(np.arange(size) < degrees[at, None])
            place = at[row], near[row, column]
            smallest[place] = fisher_z(np.sqrt(least[row, column]), rows, given)
            sets[place] = s[row, first[row, column]]
    return smallest, sets, tests


def _rounded(degrees: Ints) -> Ints:
    """Return numbers a little larger, of which there are few."""
    step = np.where(degrees <= 8, 1, np.where(degrees <= 64, 8, 32))
    return np.asarray(-(-degrees // step) * step)


def _first_of(found: Floats, least: Floats, starts: Ints) -> Ints:
    """Return the column of the smallest of each group of columns."""
    lengths = np.diff(np.append(starts, found.shape[1]))
    hit = found == np.repeat(least, lengths, axis=1)
    columns = np.where(hit, np.arange(found.shape[1]), found.shape[1] - 1)
    return np.asarray(np.minimum.reduceat(columns, starts, axis=1))


@lru_cache(maxsize=1024)
def _pattern(degree: int, given: int, tests: int) -> tuple[Ints, Ints, Ints]:
    """Return, for neighbours by strength: whom to test, given whom, and where each begins."""
    sets = min(SUBSETS, tests // degree)
    strong = given
    while strong < degree and math.comb(strong + 1, given) <= sets:
        strong += 1
    pairs: list[int] = []
    members: list[tuple[int, ...]] = []
    starts: list[int] = []
    for x in range(degree):
        starts.append(len(pairs))
        # One more than for the others, so that the strongest are tested against as many.
        others = [s for s in range(min(strong + 1, degree)) if s != x][:strong]
        chosen = list(combinations(others, given))
        pairs.extend([x] * len(chosen))
        members.extend(chosen)
    return np.array(pairs), np.array(members).reshape(-1, given), np.array(starts)


def squared_partial(corr: Floats, y: Ints, x: Ints, given: Ints) -> Floats:
    """Return the squared correlation of y and x given some variables, for many at once.

    Where x or y is determined by the others, there is nothing to test, and 1 stands for it.

    Parameters
    ----------
    corr
        Correlations (d, d).
    y, x
        Indices that broadcast to one shape.
    given
        Indices of that shape and one more axis, at least one.
    """
    k = given.shape[-1]
    columns = [given[..., a] for a in range(k)] + [x, np.broadcast_to(y, x.shape)]
    # Three times as fast as indexing with two arrays.
    flat, d = corr.ravel(), len(corr)
    places = [column * d for column in columns[:-1]]
    m = {
        (a, b): flat.take(place + columns[b])
        for a, place in enumerate(places)
        for b in range(a + 1, k + 2)
    }
    # The first one to be held has variance 1, as the others had.
    for a in range(1, k + 2):
        m[a, a] = 1 - m[0, a] ** 2
        for b in range(a + 1, k + 2):
            m[a, b] -= m[0, a] * m[0, b]
    sound = np.ones(x.shape, dtype=bool)
    for pivot in range(1, k):
        sound &= m[pivot, pivot] > _SINGULAR
        inverse = 1 / np.maximum(m[pivot, pivot], _SINGULAR)
        for a in range(pivot + 1, k + 2):
            factor = m[pivot, a] * inverse
            for b in range(a, k + 2):
                m[a, b] -= factor * m[pivot, b]
    sound &= np.minimum(m[k, k], m[k + 1, k + 1]) > _SINGULAR
    product = np.maximum(m[k, k] * m[k + 1, k + 1], _SINGULAR**2)
    return np.asarray(np.where(sound, m[k, k + 1] ** 2 / product, 1.0))
