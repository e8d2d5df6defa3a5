"""Directions for the edges of a skeleton: by time, by colliders, and by what follows from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.connectome.graph import Bools
from stream.connectome.skeleton import Skeleton


def orient(found: Skeleton, slices: NDArray[np.int64]) -> Bools:
    """Return arrows among all variables; an edge without a direction has one each way.

    The first `targets` variables of the skeleton are those whose neighbours are known. An edge
    between two times points forward: that is the step that makes PC time-aware. Within one time,
    x - z - y with x and y apart is a collider x -> z <- y where the set that made them apart lacks
    z. Where it holds z and x is earlier, z -> y; if several x do not agree, the majority decides.
    Then the rules of Meek (1995) 1 to 3.

    Parameters
    ----------
    found
        The skeleton (targets, d).
    slices
        int64 (d,): how many bins ago each variable is.
    """
    targets, d = found.adjacent.shape
    adjacent = np.zeros((d, d), dtype=bool)
    adjacent[:targets] = found.adjacent
    adjacent |= adjacent.T
    earlier = slices[:, None] > slices
    arrows = adjacent & earlier
    undirected = adjacent & ~earlier & ~earlier.T
    if undirected.any():
        arrows |= _colliders(found, adjacent, undirected, earlier)
        undirected &= ~(arrows | arrows.T)
        _follow(arrows, undirected, adjacent)
    return np.asarray(arrows | undirected)


def _colliders(found: Skeleton, adjacent: Bools, undirected: Bools, earlier: Bools) -> Bools:
    """Return the arrows into colliders within one time; conflicts stay without a direction."""
    into = np.zeros_like(adjacent)
    d = len(adjacent)
    each = np.arange(d)[:, None]
    for y in np.flatnonzero(undirected[:, : len(found.adjacent)].any(axis=0)):
        near = np.flatnonzero(undirected[:, y])
        apart = ~adjacent[:, y]
        apart[y] = False
        between = adjacent[:, near] & apart[:, None]
        # Whether the set that made x and y apart holds z; sets are filled up with -1.
        held = np.zeros((d, d + 1), dtype=bool)
        held[each, found.apart[y]] = True
        held = held[:, near]
        collides = between & ~held
        against = (between & held & earlier[:, near]).sum(axis=0)
        wins = collides.sum(axis=0) > against
        into[y, near[wins]] = True
        # The other arm of the collider, where time has not directed it.
        into[:, near[wins]] |= collides[:, wins] & undirected[:, near[wins]]
    return np.asarray(into & ~into.T)


def _follow(arrows: Bools, undirected: Bools, adjacent: Bools) -> None:
    """Apply Meek's rules until nothing changes, in place."""
    apart = (~adjacent).astype(np.float32)
    np.fill_diagonal(apart, 0)
    while undirected.any():
        along = arrows.astype(np.float32)
        lines = undirected.astype(np.float32)
        # x -> z - y, x and y apart.
        new = undirected & ((along.T @ apart) > 0)
        # z -> w -> y.
        new |= undirected & ((along @ along) > 0)
        # z - w1 -> y, z - w2 -> y, w1 and w2 apart.
        for z, y in np.argwhere(undirected & ((lines @ along) > 1)):
            between = undirected[z] & arrows[:, y]
            new[z, y] |= bool(apart[np.ix_(between, between)].any())
        new &= ~new.T
        if not new.any():
            return
        arrows |= new
        undirected &= ~(new | new.T)
