"""A graph for the console: its matrix folded into few rows, and a line about it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.nodes.heat import fold
from stream.packet import Packet


def matrix_rows(graph: Packet, most: int) -> NDArray[np.float64]:
    """Return strengths of edges, from above to below = from, in at most so many rows."""
    weights = np.abs(graph.data[..., 1]).astype(np.float64)
    strength: NDArray[np.float64] = np.where(graph.data[..., 0] > 0, weights, 0.0)
    return strength if len(strength) <= most else fold(strength.T, most).T


def about(graph: Packet) -> str:
    """Say how large a graph is and how much it is to be trusted."""
    found = f"{len(graph.data)} units, {int((graph.data[..., 0] > 0).sum())} edges"
    change, age_s = graph.meta.get("change"), graph.meta.get("age_s")
    found += f", change {change:.1f}" if isinstance(change, float) else ""
    return found + (f", {age_s:.1f} s old" if isinstance(age_s, float) else "")
