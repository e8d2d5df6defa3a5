"""A causal band-pass over many channels, by one small matrix product for each half millisecond."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Samples = NDArray[np.float32]

ORDER = 2
"""Of the Butterworth filters. A steeper one flattens spikes more than it takes off noise."""
SMALL_PRODUCT = 2**18
"""Multiplications below which OpenBLAS stays on one thread."""
_SETTLED = 1e-5


def butterworth(order: int, hz: float, rate_hz: float, kind: str) -> Floats:
    """Return the second-order sections of a Butterworth filter, by the bilinear transform.

    Parameters
    ----------
    order
        Even.
    hz
        Where it lets half of the power pass.
    rate_hz
        Samples a second.
    kind
        `low` or `high`: what passes.

    Returns
    -------
    sections
        (order / 2, 5): b0, b1, b2, a1, a2, with a0 = 1.
    """
    k = math.tan(math.pi * hz / rate_hz)
    sections = []
    for i in range(order // 2):
        damping = 2 * math.sin((2 * i + 1) * math.pi / (2 * order))
        norm = 1 / (1 + k * damping + k * k)
        gain, middle = (k * k * norm, 2.0) if kind == "low" else (norm, -2.0)
        sections.append(
            (gain, middle * gain, gain, 2 * (k * k - 1) * norm, (1 - k * damping + k * k) * norm)
        )
    return np.array(sections)


def _run(sections: Floats, samples: Floats, states: Floats) -> Floats:
    """Filter (rows, columns) sample by sample; `states` (sections, 2, columns) are carried on."""
    filtered = np.empty_like(samples)
    for row, value in enumerate(samples):
        passed = value
        for (b0, b1, b2, a1, a2), state in zip(sections, states, strict=True):
            given, passed = passed, b0 * passed + state[0]
            state[0] = b1 * given - a1 * passed + state[1]
            state[1] = b2 * given - a2 * passed
        filtered[row] = passed
    return filtered


def undelay(ahead: int, hz: float, rate_hz: float) -> Floats:
    """Return weights of a sample and of the `ahead` that follow it: itself, less their mean.

    The mean is weighted by the decay of a first-order high-pass at `hz`. Run backwards in time,
    such a filter undoes most of what a causal one does to the shape of a spike; this is that, cut
    off and made to sum to 0.
    """
    k = math.tan(math.pi * hz / rate_hz)
    decay = ((1 - k) / (1 + k)) ** np.arange(ahead)
    return np.concatenate([[1.0], -decay / decay.sum() if ahead else decay])


class BandPass:
    """A band-pass for blocks of a fixed number of rows, with a little look-ahead.

    Butterworth filters of 2nd order on either side, and then `undelay`. A causal filter flattens
    the trough of a spike; half a millisecond of look-ahead keeps it as deep as filtering forwards
    and backwards does, which needs the whole recording.

    Within a block, output and new state are linear in samples and old state: one matrix, made by
    filtering the columns of a unit matrix in double precision, gives both by one product for all
    channels. Filled from packets of any length, blocks always hold the same samples, so that the
    result does not depend on how a stream was cut, to the last bit.

    Parameters
    ----------
    rate_hz
        Samples a second.
    band_hz
        0 < low < high < rate / 2.
    shape
        Rows and channels of a block.
    ahead
        Samples of look-ahead; 0 for none. The output is late by so many.
    sign
        1, or -1 to turn the signal over.

    Attributes
    ----------
    block
        (rows, channels): fill it with samples, then call `step`.
    settle_rows
        After so many samples, one part in 100,000 of a step is left.
    """

    def __init__(
        self,
        rate_hz: float,
        band_hz: tuple[float, float],
        shape: tuple[int, int],
        ahead: int,
        sign: int = 1,
    ) -> None:
        rows, channels = shape
        sections = np.concatenate(
            [
                butterworth(ORDER, band_hz[0], rate_hz, "high"),
                butterworth(ORDER, band_hz[1], rate_hz, "low"),
            ]
        )
        n_states = 2 * len(sections)
        unit = np.eye(rows + n_states + ahead)
        given, began, waiting = np.split(unit, [rows, rows + n_states])
        states = began.reshape(len(sections), 2, -1).copy()
        passed = np.vstack([waiting, _run(sections, given, states)])
        weights = undelay(ahead, band_hz[0], rate_hz)
        filtered = np.stack([weights @ passed[i : i + ahead + 1] for i in range(rows)])
        carried = np.vstack([states.reshape(n_states, -1), passed[rows:]])
        self._rows = rows
        self._matrix = np.vstack([sign * filtered, carried]).astype(np.float32)
        self._in = np.zeros((len(unit), channels), np.float32)
        self._out = np.zeros_like(self._in)
        # Products of this size are not worth a second thread, which would only wait most of the
        # time, and BLAS libraries start none for them.
        wide = max(1, SMALL_PRODUCT // len(unit) ** 2)
        self._slices = [slice(a, a + wide) for a in range(0, channels, wide)]
        self.block = self._in[:rows]
        radius = math.sqrt(sections[:, 4].max())
        self.settle_rows = math.ceil(math.log(_SETTLED) / math.log(radius)) + ahead

    def step(self, out: Samples) -> None:
        """Filter `block` into `out` (rows, channels), `ahead` samples late."""
        for part in self._slices:
            np.matmul(self._matrix, self._in[:, part], out=self._out[:, part])
        self._in[self._rows :] = self._out[self._rows :]
        out[:] = self._out[: self._rows]
