"""How spikes are packed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream.packet import Packet


def spike_packet(
    times_ns: NDArray[np.int64], units: NDArray[np.int32], span_ns: tuple[int, int], segment: int
) -> Packet:
    """Make a `spikes` packet of spikes sorted by time; `t_ns` is left to `PacedSource`."""
    data = np.empty((len(times_ns), 2), dtype=np.int64)
    data[:, 0] = times_ns
    data[:, 1] = units
    return Packet(
        kind="spikes", data=data, t_ns=0, source_ns=span_ns[0], source_end_ns=span_ns[1],
        segment=segment,
    )  # fmt: skip
