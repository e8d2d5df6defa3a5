"""The skeleton of the PC algorithm, on a correlation matrix, many tests at a time.

PC-stable (Colombo & Maathuis, JMLR 15, 2014): a pair is taken apart as soon as some set of the
neighbours of one of them makes it independent; sets of one size are tried against the neighbours as
they were before that size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from stream.connectome.graph import Bools, Floats, fisher_z, normal_z

SUBSETS = 48
"""Sets of one size that a pair is tested against at most: those of the strongest neighbours."""
TESTS = 100_000
"""Tests of one size, roughly: with many pairs to test each has fewer sets."""
LEAST_TESTS = 512
"""Tests of one size that there may be for each unit all the same."""
MAX_GIVEN = 3
_CHUNK = 4096
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
    limited
        int64: the targets for which not all sets were tried, but those of the strongest neighbours.
    """

    adjacent: Bools
    z: Floats
    apart: Ints
    tests: int
    limited: Ints


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
    limited = np.zeros(targets, dtype=bool)
    for given in range(1, MAX_GIVEN + 1):
        degrees = adjacent.sum(axis=1)
        if rows - given - 3 < 1 or degrees.max(initial=0) < given + 1:
            break
        found = _level(corr, rows, adjacent, z, given=given, alive=alive)
        tests += found.tests
        limited[found.limited] = True
        smallest, sets = found.smallest, found.sets
        # Between two targets, the test that speaks more for independence counts.
        among = smallest[:, :targets]
        better = among > among.T
        smallest[:, :targets] = np.where(better, among.T, among)
        sets[:, :targets][better] = sets[:, :targets].transpose(1, 0, 2)[better]
        fell = adjacent & (smallest < critical)
        apart[fell, :given] = sets[fell]
        adjacent = adjacent & ~fell
        z = np.minimum(z, smallest)
    return Skeleton(adjacent, z, apart, tests, np.flatnonzero(limited))


@dataclass(frozen=True)
class _Level:
    """The smallest |z| of each pair, by which set, how many tests, which targets had fewer."""

    smallest: Floats
    sets: Ints
    tests: int
    limited: Ints


def _level(
    corr: Floats,
    rows: float,
    adjacent: Bools,
    z: Floats,
    *,
    given: int,
    alive: Callable[[], None],
) -> _Level:
    """Test all pairs against sets of one size of the target's other neighbours."""
    smallest = np.full(adjacent.shape, np.inf)
    best = np.full((*adjacent.shape, given), -1, dtype=np.int64)
    y, x = np.nonzero(adjacent)
    # The neighbours of each target side by side, the strongest first.
    by_strength = np.lexsort((-z[y, x], y))
    y, x = y[by_strength], x[by_strength]
    degrees = adjacent.sum(axis=1)
    starts = (np.cumsum(degrees) - degrees)[y]
    rank, others = np.arange(len(y)) - starts, degrees[y] - 1
    testable = others >= given
    most = min(SUBSETS, max(TESTS, LEAST_TESTS * len(z)) // max(testable.sum(), 1))
    strong = given
    while math.comb(strong + 1, given) <= most:
        strong += 1
    tests = 0
    # Pairs with about as many neighbours go together; what one lacks proves nothing.
    sizes = np.where(testable, np.minimum(_rounded(others), strong), 0)
    for size in np.unique(sizes[testable]):
        sets = _sets(int(size), given)
        which = np.flatnonzero(sizes == size)
        step = max(1, _CHUNK // len(sets))
        for begin in range(0, len(which), step):
            alive()
            at = which[begin : begin + step]
            # The strongest neighbours but the one that is tested.
            place = np.arange(size) + (np.arange(size) >= rank[at, None])
            near = x[np.minimum(starts[at, None] + place, len(x) - 1)]
            held = [near.take(member, axis=1) for member in sets.T]
            found = squared_partial(corr, y[at, None], x[at, None], held)
            found[sets.max(axis=1) >= others[at, None]] = 1.0
            least = found.argmin(axis=1)
            each = np.arange(len(at))
            smallest[y[at], x[at]] = fisher_z(np.sqrt(found[each, least]), rows, given)
            best[y[at], x[at]] = near[each[:, None], sets[least]]
            tests += found.size
    return _Level(smallest, best, tests, np.unique(y[testable & (others > strong)]))


def _rounded(numbers: Ints) -> Ints:
    """Return numbers a little larger, of which there are few."""
    step = np.where(numbers <= 8, 1, np.where(numbers <= 64, 8, 32))
    return np.asarray(-(-numbers // step) * step)


@lru_cache(maxsize=256)
def _sets(neighbours: int, given: int) -> Ints:
    """Return all sets (sets, given) of so many of the first so many neighbours."""
    return np.array(list(combinations(range(neighbours), given)), dtype=np.int64)


def squared_partial(corr: Floats, y: Ints, x: Ints, given: Sequence[Ints]) -> Floats:
    """Return the squared correlation of y and x given some variables, for many at once.

    Where x or y is determined by the others, there is nothing to test, and 1 stands for it.

    Parameters
    ----------
    corr
        Correlations (d, d).
    y, x
        Indices that broadcast to the shape of the result.
    given
        One or more arrays of indices of that shape.
    """
    k = len(given)
    columns = [*given, x, y]
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
            m[a, b] = m[a, b] - m[0, a] * m[0, b]
    sound = np.ones(given[0].shape, dtype=bool)
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
