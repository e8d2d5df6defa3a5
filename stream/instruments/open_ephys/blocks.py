"""A block of all channels, put together from one message for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.instruments.open_ephys.messages import Block


class Blocks:
    """Puts blocks together. A block of which a channel is missing is thrown away.

    Attributes
    ----------
    missing
        Blocks thrown away since this was last set to 0.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        self.missing = 0
        self._columns = {channel: column for column, channel in enumerate(channels)}
        self._samples: NDArray[np.float32] | None = None
        self._there = bytearray()

    def begin(self, n: int) -> None:
        """Begin a block of `n` samples."""
        self.abandon()
        self._samples = np.empty((n, len(self._columns)), np.float32)
        self._there = bytearray(len(self._columns))

    def abandon(self) -> None:
        """Throw away what there is of a block; before the next `begin` nothing is taken."""
        self.missing += self._samples is not None
        self._samples = None

    def forget(self) -> None:
        """Throw away what there is of a block that nobody waits for."""
        self._samples = None

    def knows(self, block: Block) -> bool:
        """Whether this is one of the channels."""
        return block.channel_num in self._columns

    def add(self, block: Block, payload: bytes) -> NDArray[np.float32] | None:
        """Take one channel in. Return (samples, channels) when it was the last one missing."""
        if self._samples is None or block.num_samples != len(self._samples):
            return None
        column = self._columns[block.channel_num]
        self._samples[:, column] = np.frombuffer(payload, "<f4")
        self._there[column] = 1
        # Channels come in order, so that only the last one needs a look at all of them.
        if column < len(self._there) - 1 or not all(self._there):
            return None
        done, self._samples = self._samples, None
        return done
