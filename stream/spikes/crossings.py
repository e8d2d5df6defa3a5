"""Where filtered channels cross their thresholds: one event for each, at its trough."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.spikes.bandpass import Samples

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

FEWEST_FOR_SHARE = 8
"""Below so many channels a spike may well be on all of them, and that is no artefact."""
_NEVER = -(2**62)


class Events(NamedTuple):
    """Threshold crossings: sample numbers of their troughs, and their channels, sorted by both."""

    samples: Ints
    channels: Ints


NONE = Events(np.empty(0, np.int64), np.empty(0, np.int64))


class Crossings:
    """Finds downward crossings, in blocks of `rows` samples of which the latest two are kept.

    A crossing is a sample below its threshold after one that was not. Its event is the lowest of
    the `rows` samples that begin with it, which are there when the next block is. Events leave
    when none can come before them any more; those of a channel are at least `dead` apart.

    A sample at which more than a share of the channels are below their thresholds, and one beyond
    `limit` for its own channel, is an artefact: events from a block before it to `blank` after it
    are dropped, and counted in `artefacts`.

    Parameters
    ----------
    shape
        Rows and channels of a block.
    dead
        In samples, from a trough to the next crossing that counts; at least `rows`.
    blank
        In samples, after an artefact.
    share
        Of the channels, 0 to 1.
    limit
        Of filtered samples, either way; infinity for none.

    Attributes
    ----------
    current
        (rows, channels): put filtered samples here, then call `step`.
    start
        Number of the first sample that has not been searched.
    blocked
        For each channel, the first sample from which a crossing counts.
    artefacts
        Events that were dropped.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        dead: int,
        blank: int,
        share: float,
        limit: float,
    ) -> None:
        rows, channels = shape
        self._rows = rows
        self._dead = dead
        self._blank = blank
        self._limit = limit
        self._most = max(share * channels, 1) if channels >= FEWEST_FOR_SHARE else channels
        self._window = np.arange(rows)
        self._values = np.zeros((2 * rows, channels), np.float32)
        self._low = np.zeros((2 * rows + 1, channels), np.bool_)
        self._began = np.zeros((rows, channels), np.bool_)
        self.current = self._values[rows:]
        self.previous = self._values[:rows]
        self.artefacts = 0
        self.reset(0)

    def reset(self, from_sample: int) -> None:
        """Begin with sample 0 in the next block, and find nothing before `from_sample`."""
        channels = self._values.shape[1]
        self.start = -self._rows
        self.blocked = np.full(channels, from_sample, np.int64)
        self._artefact = np.full(channels, _NEVER, np.int64)
        self._waiting = NONE
        self._values[:] = 0
        self._low[:] = False

    def step(self, thresholds: Samples) -> Events:
        """Take the block in `current` and return the events up to its beginning."""
        np.less(self.current, thresholds, out=self._low[self._rows + 1 :])
        self._find_artefacts()
        found = self._search()
        if len(self._waiting.samples):
            found = _join(self._waiting, found)
        self.start += self._rows
        leaving = found.samples < self.start
        self._waiting = Events(*(values[~leaving] for values in found))
        return self._without_artefacts(Events(*(values[leaving] for values in found)))

    def usable(self, row: int) -> Flags:
        """Return which channels have noise in a row of `previous`: no event, no artefact."""
        sample = self.start - self._rows + row
        return (self.blocked <= sample) & (self._artefact < sample - self._blank)

    def advance(self) -> None:
        """Make room in `current` for the next block."""
        self.previous[:] = self.current
        self._low[: self._rows + 1] = self._low[self._rows :]

    def _find_artefacts(self) -> None:
        low = self._low[self._rows + 1 :]
        first = self.start + self._rows
        if np.count_nonzero(low) > self._most:
            rows = np.flatnonzero(np.count_nonzero(low, axis=1) > self._most)
            if len(rows):
                self._artefact[:] = first + rows[-1]
        if max(self.current.max(), -self.current.min()) > self._limit:
            rows, channels = np.nonzero(np.abs(self.current) > self._limit)
            np.maximum.at(self._artefact, channels, first + rows)

    def _search(self) -> Events:
        rows = self._rows
        # Of two flags, the greater is the one that is set alone.
        np.greater(self._low[1 : rows + 1], self._low[:rows], out=self._began)
        cells = np.flatnonzero(self._began)
        if not len(cells):
            return NONE
        at, channels = np.divmod(cells, self._values.shape[1])
        counts = self.start + at >= self.blocked[channels]
        at, channels = at[counts], channels[counts]
        # Dead time lasts a block or more: the first of each channel is the only one.
        channels, first = np.unique(channels, return_index=True)
        at = at[first]
        windows = self._values[at[:, None] + self._window, channels[:, None]]
        samples = self.start + at + windows.argmin(1)
        self.blocked[channels] = samples + self._dead
        order = np.lexsort((channels, samples))
        return Events(samples[order], channels[order])

    def _without_artefacts(self, events: Events) -> Events:
        if not len(events.samples):
            return events
        artefact = self._artefact[events.channels] >= events.samples - self._blank
        count = np.count_nonzero(artefact)
        if not count:
            return events
        self.artefacts += int(count)
        return Events(*(values[~artefact] for values in events))


def _join(one: Events, other: Events) -> Events:
    samples = np.concatenate([one.samples, other.samples])
    channels = np.concatenate([one.channels, other.channels])
    order = np.lexsort((channels, samples))
    return Events(samples[order], channels[order])
