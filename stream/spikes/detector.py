"""From raw channels to threshold crossings, in blocks of half a millisecond."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stream.spikes.bandpass import BandPass, Samples
from stream.spikes.crossings import NONE, Crossings, Events, Flags, Ints
from stream.spikes.noise import OUTLIER, NoiseLevels
from stream.spikes.reference import CommonReference, Kind

BLOCK_S = 0.0005
"""What is worked on at once, and what the trough of a crossing may lie after it."""
FLAT_S = 0.05
"""A channel that has not changed for so long is not alive."""
_REVIEW_S = 1.0
# A step through the rows of a block that meets each: nothing in step with blocks is favoured.
_STRIDE = 7


@dataclass(frozen=True)
class Detection:
    """How to detect; times in seconds.

    Attributes
    ----------
    threshold
        Times the noise of a channel. Below 0, troughs are found, above 0 peaks.
    fixed
        Threshold for all channels in the unit of the samples, in place of that; signed too.
    low_hz, high_hz
        Band.
    ahead_s
        Look-ahead of the filter, 0 for none.
    reference
        What is subtracted from all channels.
    dead_s
        From a trough to the next crossing of the channel that counts; at least `BLOCK_S`.
    blank_s, share, limit, clipped
        As in `Crossings`; and the magnitude from which raw samples are clipped.
    """

    threshold: float = -4.5
    fixed: float | None = None
    low_hz: float = 300.0
    high_hz: float = 6000.0
    ahead_s: float = 0.0005
    reference: Kind = "mean"
    dead_s: float = 0.001
    blank_s: float = 0.002
    share: float = 0.3
    limit: float = math.inf
    clipped: float = math.inf


class Detector:
    """Finds the threshold crossings of channels that are fed to it in pieces of any length.

    What is found does not depend on the lengths of the pieces. Samples are numbered from 0 at
    `restart`. An event is returned once a block beyond its trough has been filtered.

    Attributes
    ----------
    fed
        Samples since the restart.
    begun
        First sample that is searched since the restart; None until the filter has settled and
        thresholds are known.
    searched
        Events before this sample are all returned, and none before it follows.
    not_finite, saturated
        Samples that were replaced by the one before, and that were clipped. Their channels find
        nothing until the filter has settled again.
    flat_s
        For each channel, how long it was not alive.
    """

    def __init__(self, rate_hz: float, channels: int, how: Detection) -> None:
        self.rows = max(2, round(rate_hz * BLOCK_S))
        self.channels = channels
        self.how = how
        sign = -1 if (how.threshold if how.fixed is None else how.fixed) > 0 else 1
        shape = (self.rows, channels)
        self._ahead = round(how.ahead_s * rate_hz)
        band_hz = (how.low_hz, how.high_hz)
        self._filter = BandPass(rate_hz, band_hz, shape, self._ahead, sign)
        self._reference = CommonReference(how.reference, channels)
        self._crossings = Crossings(
            shape,
            dead=max(self.rows, round(how.dead_s * rate_hz)),
            blank=round(how.blank_s * rate_hz),
            share=how.share,
            limit=how.limit,
        )
        self._block_s = self.rows / rate_hz
        self.noise = NoiseLevels(channels, self._block_s)
        self._fixed = None if how.fixed is None else np.float32(-abs(how.fixed))
        self._thresholds = np.full(channels, -np.inf if how.fixed is None else self._fixed, "f4")
        self._flat_blocks = math.ceil(FLAT_S / self._block_s)
        self._review_blocks = math.ceil(_REVIEW_S / self._block_s)
        self._same = np.zeros(channels, np.int64)
        self._flat = np.zeros(channels, np.bool_)
        self.flat_s = np.zeros(channels)
        self.not_finite = self.saturated = 0
        self._blocks = 0
        self.restart()

    @property
    def artefacts(self) -> int:
        """Events that were dropped as artefacts so far."""
        return self._crossings.artefacts

    @property
    def good(self) -> Flags:
        """Which channels the reference is made of."""
        return self._reference.good

    def restart(self) -> None:
        """Begin a stretch that does not continue the last one; levels of noise are kept."""
        # The filter is left as it is: it forgets while it settles.
        self._filled = 0
        self.fed = 0
        self.searched = 0
        self.begun: int | None = None
        self._last: Samples | None = None
        self._settled = math.ceil(self._filter.settle_rows / self.rows) * self.rows
        self._crossings.reset(self._settled)

    def feed(self, samples: Samples) -> Events:
        """Take (samples, channels) and return the events that are certain now."""
        found: list[Events] = []
        at = 0
        self.fed += len(samples)
        while at < len(samples):
            count = min(self.rows - self._filled, len(samples) - at)
            self._filter.block[self._filled : self._filled + count] = samples[at : at + count]
            self._filled += count
            at += count
            if self._filled == self.rows:
                self._filled = 0
                events = self._step()
                if len(events.samples):
                    found.append(events)
        if not found:
            return NONE
        # Inside of here, samples are numbered as they leave the filter.
        return Events(
            np.concatenate([events.samples for events in found]) - self._ahead,
            np.concatenate([events.channels for events in found]),
        )

    def _step(self) -> Events:
        crossings, row = self._crossings, self._blocks * _STRIDE % self.rows
        ready = self._fixed is not None or self.noise.known
        self._blocks += 1
        self._inspect(self._filter.block)
        self._last = self._filter.block[-1].copy()
        self._filter.step(crossings.current)
        if not ready:
            settled = crossings.start + self.rows >= self._settled
            if settled and not self._flat.all() and self.noise.learn(crossings.current[row]):
                self._first_levels()
        elif self._blocks % self._review_blocks == 0:
            self._review()
        self._reference.subtract(crossings.current)
        events = crossings.step(self._thresholds)
        if ready and crossings.start >= self._settled:
            self.searched = crossings.start - self._ahead
            if self.begun is None:
                self.begun = self.searched
        if self._fixed is None and self.noise.known:
            self.noise.follow(crossings.previous[row], crossings.usable(row))
            np.multiply(self.noise.sigma, -abs(self.how.threshold), out=self._thresholds)
            self._thresholds[self.noise.sigma == 0] = -np.inf
        crossings.advance()
        return events

    def _first_levels(self) -> None:
        rows = self.noise.learned
        # Who may be part of the reference shows in what is not referred to it yet.
        self.noise.set(rows)
        self._review()
        self._reference.subtract(rows)
        self.noise.set(rows)

    def _review(self) -> None:
        """Choose the channels that the reference is made of."""
        good = ~self._flat
        if self._fixed is None and self.noise.known:
            sigma = self.noise.sigma
            heard = sigma > 0
            middle = np.median(sigma[heard & good]) if (heard & good).any() else 0.0
            good &= heard & (sigma <= OUTLIER * middle) & (sigma >= middle / OUTLIER)
            # One that was silent while the others were measured begins as one of them.
            sigma[~heard & ~self._flat] = middle
        self._reference.choose(good)

    def _inspect(self, block: Samples) -> None:
        """Look for samples that are none, and for channels that are not alive."""
        highest, lowest = block.max(0), block.min(0)
        first = self._crossings.start + self.rows
        clipped = self.how.clipped
        if not (highest.max() < clipped and -lowest.min() < clipped):
            self._set_aside(block, first)
        same = highest == lowest
        if self._last is not None:
            same &= block[0] == self._last
        if not same.any() and not self._flat.any():
            self._same[:] = 0
            return
        self._same = (self._same + 1) * same
        flat = self._same >= self._flat_blocks
        if flat.any():
            self.flat_s[flat] += self._block_s
            # When they come back, the filter has a step to forget.
            self._block(flat, first + self.rows - 1)
        if (flat != self._flat).any():
            self._flat = flat
            self._review()

    def _set_aside(self, block: Samples, first: int) -> None:
        strange = ~np.isfinite(block)
        clipped = np.abs(block) >= self.how.clipped
        clipped &= ~strange
        self.not_finite += int(np.count_nonzero(strange))
        self.saturated += int(np.count_nonzero(clipped))
        before = np.zeros(self.channels, np.float32) if self._last is None else self._last
        block[strange] = np.broadcast_to(before, block.shape)[strange]
        bad = strange | clipped
        last = self.rows - 1 - bad[::-1].argmax(0)
        channels = bad.any(0)
        self._block(channels, first + last[channels])

    def _block(self, channels: Flags, sample: int | Ints) -> None:
        """Find nothing on some channels until a disturbance at a sample is forgotten."""
        blocked = self._crossings.blocked
        blocked[channels] = np.maximum(blocked[channels], sample + self._settled)
