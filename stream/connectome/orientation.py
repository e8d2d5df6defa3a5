"""Directions for the edges of a skeleton: by time, by colliders, and by what follows from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.connectome.graph import Bools
from stream.connectome.skeleton import Skeleton

_CHUNK = 4_000_000


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
    lines = np.argwhere(undirected)
    step = max(1, _CHUNK // len(adjacent))
    for begin in range(0, len(lines), step):
        z, y = lines[begin : begin + step].T
        # All x next to z and apart from y, for each pair of z and y.
        pair, x = np.nonzero(adjacent[z] & ~adjacent[y])
        pair, x = pair[x != y[pair]], x[x != y[pair]]
        # Whether the set that made x and y apart holds z.
        held = (found.apart[y[pair], x] == z[pair, None]).any(axis=1)
        against = pair[held & earlier[x, z[pair]]]
        wins = np.bincount(pair[~held], minlength=len(z)) > np.bincount(against, minlength=len(z))
        into[y[wins], z[wins]] = True
        # The other arm of the collider, where time has not directed it.
        arm = ~held & wins[pair] & undirected[x, z[pair]]
        into[x[arm], z[pair[arm]]] = True
    return np.asarray(into & ~into.T)


def _follow(arrows: Bools, undirected: Bools, adjacent: Bools) -> None:
    """Apply Meek's rules until nothing changes, in place."""
    near = np.flatnonzero(undirected.any(axis=0))
    among = np.ix_(near, near)
    apart = (~adjacent[:, near]).astype(np.float32)
    apart[near, np.arange(len(near))] = 0
    open_ = undirected[among]
    while open_.any():
        along = arrows[:, near].astype(np.float32)
        # x -> z - y, x and y apart.
        new = open_ & ((along.T @ apart) > 0)
        # z -> w -> y.
        new |= open_ & ((arrows[near].astype(np.float32) @ along) > 0)
        # z - w1 -> y, z - w2 -> y, w1 and w2 apart.
        for z, y in np.argwhere(open_ & ((open_.astype(np.float32) @ along[near]) > 1)):
            between = np.flatnonzero(open_[z] & arrows[near, near[y]])
            new[z, y] |= bool(apart[np.ix_(near[between], between)].any())
        new &= ~new.T
        if not new.any():
            break
        arrows[among] |= new
        open_ &= ~(new | new.T)
    undirected[among] = open_
