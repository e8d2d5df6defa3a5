"""Raw channels with known spikes: waveforms on a line of electrodes, in the noise of a rig."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 30_000.0
TROUGH = 20
"""Samples before the trough in a waveform."""
_LENGTH = 64
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rig:
    """What disturbs: standard deviations and amplitudes in uV before any filter.

    `white` and `background` (small spikes of many cells, not Gaussian) are each channel's own, of
    `slow` (1/f, a local field) half the power is shared, `common` is broadband and the same
    everywhere up to gains of +-10 %. `artefacts` a second hit all channels at once.
    """

    white: float = 5.0
    background: float = 4.0
    slow: float = 100.0
    hum: float = 30.0
    common: float = 6.0
    artefacts: float = 0.2
    artefact_uv: float = 2000.0


@dataclass(frozen=True)
class Raw:
    """Simulated channels.

    Attributes
    ----------
    samples
        (samples, channels) float32, uV.
    troughs
        For each unit, the samples at which its spikes have their troughs.
    home, amplitudes
        For each unit, its channel, and (units, channels) the depth of its troughs in uV.
    artefacts
        Samples at which artefacts begin.
    """

    samples: NDArray[np.float32]
    troughs: list[Ints]
    home: Ints
    amplitudes: NDArray[np.float64]
    artefacts: Ints = field(default_factory=lambda: np.empty(0, np.int64))


def waveform(width_ms: float, after: float = 0.35) -> NDArray[np.float64]:
    """Return a spike of depth 1: a trough, and a shallower, longer hump after it."""
    t = (np.arange(_LENGTH) - TROUGH) / RATE_HZ * 1e3
    shape = -np.exp(-((t / width_ms) ** 2))
    shape += after * np.exp(-(((t - 3.2 * width_ms) / (2 * width_ms)) ** 2))
    shape += 0.12 * np.exp(-(((t + 2.2 * width_ms) / width_ms) ** 2))
    return shape / -shape.min()


def simulate(
    times_s: Sequence[NDArray[np.float64]],
    amplitudes_uv: Sequence[float],
    seconds: float,
    channels: int,
    *,
    rig: Rig = Rig(),
    seed: int = 0,
) -> Raw:
    """Put spikes of these times and depths on channels; units are spread evenly along the line."""
    random = np.random.default_rng(seed)
    n = round(seconds * RATE_HZ)
    samples = _noise(n, channels, rig, random)
    home = np.linspace(0, channels - 1, len(times_s)).round().astype(np.int64)
    random.shuffle(home)
    reach = random.uniform(0.6, 1.6, len(times_s))
    distance = np.abs(np.arange(channels) - home[:, None])
    amplitudes = np.asarray(amplitudes_uv)[:, None] * np.exp(-distance / reach[:, None])
    amplitudes[amplitudes < 5] = 0
    troughs = []
    for unit, times in enumerate(times_s):
        shape = waveform(random.uniform(0.1, 0.2), random.uniform(0.2, 0.5))
        at = np.round(times * RATE_HZ).astype(np.int64)
        at = np.sort(at[(at >= TROUGH) & (at < n - _LENGTH)])
        sizes = random.normal(1, 0.08, len(at)).clip(0.5)
        where = np.flatnonzero(amplitudes[unit])
        spike = shape[:, None] * amplitudes[unit, where]
        for trough, size in zip(at, sizes, strict=True):
            samples[trough - TROUGH : trough - TROUGH + _LENGTH, where] += size * spike
        troughs.append(at)
    began = np.sort(random.integers(0, n - 3000, random.poisson(rig.artefacts * seconds)))
    for at in began:
        decay = np.exp(-np.arange(150) / random.uniform(10, 30)) * random.choice([-1, 1])
        ringing = np.cos(np.arange(150) * random.uniform(0.1, 0.6))
        gains = random.uniform(0.2, 1, channels) * rig.artefact_uv
        samples[at : at + 150] += (decay * ringing)[:, None] * gains
    return Raw(samples, troughs, home, amplitudes, began)


def _noise(n: int, channels: int, rig: Rig, random: np.random.Generator) -> NDArray[np.float32]:
    t = np.arange(n) / RATE_HZ
    shared_slow = _slow(n, random)
    common = random.standard_normal(n) * rig.common
    hum = sum(np.sin(2 * np.pi * 50 * k * t + k) / k for k in (1, 2, 3, 5)) * rig.hum
    small = waveform(0.12)
    samples = np.empty((n, channels), np.float32)
    for c in range(channels):
        own = random.standard_normal(n) * rig.white
        slow = (shared_slow + _slow(n, random)) / np.sqrt(2) * rig.slow
        # 600 cells of 5 Hz too far away to be told apart, none deeper than 2.5 times `background`.
        impulses = np.zeros(n)
        at = random.integers(0, n, random.poisson(3000 * n / RATE_HZ))
        np.add.at(impulses, at, random.uniform(0, 1, len(at)))
        far = np.convolve(impulses, small, "same")
        far *= rig.background / far.std()
        gain = random.uniform(0.9, 1.1)
        samples[:, c] = own + slow + far - far.mean() + gain * (common + hum)
    return samples


def _slow(n: int, random: np.random.Generator) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(random.standard_normal(n))
    hz = np.fft.rfftfreq(n, 1 / RATE_HZ)
    spectrum *= 1 / np.maximum(hz, 1.0)
    slow = np.fft.irfft(spectrum, n)
    return slow / slow.std()
