"""What RHX writes on its data sockets, read from pieces of any length.

The formats are those of Intan's TCP documentation for RHX 3: a spike is 14 bytes (magic number,
five characters of the native channel name, time stamp, id), a block of waveforms 128 frames (time
stamp, then one word for each enabled band of each enabled channel) after a magic number. All
numbers are little endian. TCP keeps no borders between records.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPIKE_MAGIC = 0x3AE2710F
WAVEFORM_MAGIC = 0x2EF07A08
FRAMES_PER_BLOCK = 128
SPIKE = np.dtype([("magic", "<u4"), ("channel", "S5"), ("timestamp", "<u4"), ("id", "u1")])


class Records:
    """Cuts a stream of bytes into records that begin with a magic number.

    Where a record does not begin as it should, what lies before the next magic number is skipped.

    Parameters
    ----------
    dtype
        Of one record; its first field is called `magic`.
    magic
        The number that begins each.

    Attributes
    ----------
    skipped_bytes
        How much was skipped in all.
    """

    def __init__(self, dtype: np.dtype[np.void], magic: int) -> None:
        self.skipped_bytes = 0
        self._dtype = dtype
        self._magic = magic
        self._mark = magic.to_bytes(4, "little")
        self._rest = b""

    def feed(self, data: bytes) -> NDArray[np.void]:
        """Return the records that these bytes complete, in the order in which they came."""
        data = self._rest + data
        found: list[NDArray[np.void]] = []
        at = 0
        while True:
            count = (len(data) - at) // self._dtype.itemsize
            records = np.frombuffer(data, self._dtype, count, at)
            wrong = np.flatnonzero(records["magic"] != self._magic)
            good = int(wrong[0]) if len(wrong) else count
            if good:
                found.append(records[:good])
                at += good * self._dtype.itemsize
            if good == count and data.startswith(self._mark[: len(data) - at], at):
                break
            to = data.find(self._mark, at + 1)
            if to < 0:
                to = _beginning(data, self._mark, at + 1)
            self.skipped_bytes += to - at
            at = to
        self._rest = data[at:]
        return np.concatenate(found) if found else np.empty(0, self._dtype)


def _beginning(data: bytes, mark: bytes, start: int) -> int:
    """Return where the end of `data` could be the beginning of `mark`."""
    for at in range(max(start, len(data) - len(mark) + 1), len(data)):
        if mark.startswith(data[at:]):
            return at
    return len(data)


def spikes() -> Records:
    """Read the spike socket."""
    return Records(SPIKE, SPIKE_MAGIC)


def waveforms(words: int) -> Records:
    """Read the waveform socket, of which each frame has so many words beside its time stamp."""
    frame = np.dtype([("timestamp", "<u4"), ("words", "<u2", (words,))])
    return Records(
        np.dtype([("magic", "<u4"), ("frames", frame, (FRAMES_PER_BLOCK,))]), WAVEFORM_MAGIC
    )


class Unwrap:
    """Makes 64-bit sample numbers of time stamps of 32 bits.

    At 30 kHz these begin again at 0 after 39.8 hours. A controller that is started again also
    begins at 0: a step of more than `jump` samples in either direction is that, and not the wrap.
    """

    def __init__(self, jump: int) -> None:
        self._jump = jump
        self._last: int | None = None

    def feed(self, timestamps: NDArray[np.uint32]) -> NDArray[np.int64]:
        """Return the sample numbers of time stamps that came in about this order."""
        wide = timestamps.astype(np.int64)
        if not len(wide):
            return wide
        if self._last is not None:
            # How far the first is from the last one, the shorter way round.
            step = (int(wide[0]) - self._last + 2**31) % 2**32 - 2**31
            wide += (self._last + step - int(wide[0])) if abs(step) <= self._jump else 0
        steps = np.diff(wide)
        wraps = np.cumsum((steps < -(2**31)).astype(np.int64) - (steps > 2**31))
        wide[1:] += wraps * 2**32
        self._last = int(wide.max())
        return wide
