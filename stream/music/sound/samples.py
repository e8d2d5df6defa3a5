"""Samples of a SoundFont made ready to be played: finer, filtered beforehand, loops unrolled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.music.sound.soundfont import SoundFont, Zone

RATE_HZ = 48_000
"""Frames a second of all sound that is made here."""

OVERSAMPLING = 2
CHUNK = 128
"""Most frames that are played between two looks at where in its loop a voice is."""

LEVELS = 17
LEVEL_CENTS = 600
"""How far the cutoffs of two neighbouring levels lie apart: half an octave."""

BEND_CENTS = 200
PERCUSSION_CHANNEL = 9
_PERCUSSION_BANK = 128
_STEEPEST = 256.0
_USUALLY_STEEPEST = 20.0
_GUARD = 512
_MOST_SAMPLES = 64 * 1024 * 1024
_OPEN_CENTS = 13500


@dataclass(frozen=True)
class Playable:
    """A zone and where its sample lies among the prepared ones.

    Attributes
    ----------
    zone
        What the file says.
    at, length
        First sample of the unfiltered version; samples from one version to the next, 0 where there
        is only one.
    loop, end
        From `at`; `loop` is None for what is played once.
    """

    zone: Zone
    at: int
    length: int
    loop: tuple[int, int] | None
    end: int


class Samples:
    """The samples of the presets that have been asked for.

    A low-pass filter that moves while a voice sounds cannot be computed for many voices at a time.
    A sample that is filtered therefore lies here in `LEVELS` versions, the first unfiltered, each
    further one with a cutoff half an octave lower from the highest frequency of the sample on, and
    a voice fades from one to the next. All are filtered without shift in phase, so what is between
    two of them sounds like a cutoff between.

    Attributes
    ----------
    pool
        (n,) complex64: a sample and the difference to the one after it. Only ever grows, by being
        replaced, so that a thread may play from it meanwhile.
    missing
        Banks and programs that were asked for and are not in the font; others are played instead.
    unfiltered
        Presets whose filters were left out, since with them they would need too much memory.
    """

    def __init__(self, font: SoundFont) -> None:
        self.pool: NDArray[np.complex64] = np.zeros(CHUNK, np.complex64)
        self.missing: set[tuple[int, int]] = set()
        self.unfiltered = 0
        self._font = font
        self._presets: dict[tuple[int, int], tuple[tuple[Playable, ...], ...]] = {}

    def preset_of(self, channel: int, program: int) -> tuple[int, int]:
        """Return bank and program that a channel plays; others where the font lacks it."""
        bank = _bank(channel)
        wanted = ((bank, program), (bank, 0), (0, program), (0, 0))
        there = self._font.presets
        return next((key for key in wanted if key in there), min(there))

    def check(self, program: int) -> None:
        """Look whether an instrument could be prepared.

        Raises
        ------
        ConfigError
            The font is damaged there, or its samples cannot be played.
        """
        if not self._font.zones(*self.preset_of(0, program)):
            raise ConfigError(
                f"instrument {program} of the SoundFont {self._font.path} plays no sample."
            )

    def prepare(
        self, channel: int, program: int, alive: Callable[[], None] = lambda: None
    ) -> tuple[tuple[Playable, ...], ...]:
        """Return what each of the 128 keys of an instrument plays, prepared if it is not yet.

        `alive` is called now and then. The first time takes some 0.1 s.

        Raises
        ------
        ConfigError
            The font is damaged there or too large.
        """
        key = self.preset_of(channel, program)
        if key != (wanted := (_bank(channel), program)):
            self.missing.add(wanted)
        if key not in self._presets:
            self._presets[key] = self._prepare(self._font.zones(*key), alive)
        return self._presets[key]

    def ready(self, channel: int, program: int) -> tuple[tuple[Playable, ...], ...] | None:
        """Return what was prepared for an instrument, None if it was not."""
        return self._presets.get(self.preset_of(channel, program))

    def _prepare(
        self, zones: list[Zone], alive: Callable[[], None]
    ) -> tuple[tuple[Playable, ...], ...]:
        need = {_sample_key(zone, True): _size(zone, True) for zone in zones}
        filtered = len(self.pool) + sum(need.values()) <= _MOST_SAMPLES
        self.unfiltered += not filtered
        parts = [self.pool]
        end = len(self.pool)
        there: dict[tuple[object, ...], Playable] = {}
        playable = []
        for zone in zones:
            key = _sample_key(zone, filtered)
            if key not in there:
                alive()
                made = _versions(self._font, zone, filtered)
                if end + made.data.size > _MOST_SAMPLES:
                    raise ConfigError(
                        f"an instrument of the SoundFont {self._font.path} needs more than"
                        f" {_MOST_SAMPLES * 8 // 2**20} MiB; take a smaller one."
                    )
                versions, length = made.data.shape
                there[key] = Playable(zone, end, length * (versions > 1), made.loop, made.end)
                parts.append(made.data.reshape(-1))
                end += made.data.size
            found = there[key]
            playable.append(Playable(zone, found.at, found.length, found.loop, found.end))
        self.pool = np.concatenate(parts)
        return tuple(
            tuple(p for p in playable if p.zone.keys[0] <= number <= p.zone.keys[1])
            for number in range(128)
        )


def _bank(channel: int) -> int:
    return _PERCUSSION_BANK if channel == PERCUSSION_CHANNEL else 0


@dataclass(frozen=True)
class _Versions:
    data: NDArray[np.complex64]
    loop: tuple[int, int] | None
    end: int


def step(zone: Zone, key: int, bend_cents: float = 0.0) -> float:
    """Return by how many prepared samples a voice moves on in one frame."""
    cents = (key - zone.root) * zone.scale_cents + zone.tune_cents + bend_cents
    natural = zone.rate_hz * OVERSAMPLING / RATE_HZ
    return min(math.exp2(cents / 1200) * natural, _STEEPEST)


def _filtered(zone: Zone) -> bool:
    nyquist_cents = 1200 * np.log2(zone.rate_hz / 2 / 8.176)
    lowest = zone.cutoff_cents + min(zone.cutoff_by_envelope_cents, 0)
    return bool(lowest < min(nyquist_cents, _OPEN_CENTS) or zone.q_cb > 0)


def _sample_key(zone: Zone, filtered: bool) -> tuple[object, ...]:
    """Return what two zones must have in common to be played from the same versions."""
    # Resonance in steps of 3 dB, so that zones share what they can.
    q = round(zone.q_cb / 30) if filtered and _filtered(zone) else None
    return zone.start, zone.end, zone.loop, zone.rate_hz, q, _padding(zone)


def _padding(zone: Zone) -> int:
    """Return how far a voice may come beyond its end or loop before that is looked at."""
    key = zone.fixed_key if zone.fixed_key >= 0 else zone.keys[1]
    steepest = step(zone, key, BEND_CENTS)
    return int(np.ceil(CHUNK * max(steepest, _USUALLY_STEEPEST))) + 2


def _size(zone: Zone, filtered: bool) -> int:
    versions = LEVELS if filtered and _filtered(zone) else 1
    length = zone.end - zone.start
    if zone.loop is not None:
        length += _GUARD + zone.loop[1] - zone.loop[0]
    return versions * (OVERSAMPLING * length + _padding(zone))


def _versions(font: SoundFont, zone: Zone, filtered: bool) -> _Versions:
    """Make the versions of a sample, the loop unrolled far enough that it needs no care."""
    data = font.samples[zone.start : zone.end].astype(np.float64) / 32768
    padding = _padding(zone)
    loop = None
    end = len(data)
    if zone.loop is not None:
        start, stop = zone.loop[0] - zone.start, zone.loop[1] - zone.start
        turn = data[start:stop]
        # Where the filter has forgotten what came before the loop.
        shift = -(-_GUARD // len(turn)) * len(turn)
        beyond = shift + padding // OVERSAMPLING + 1 + _GUARD
        data = np.concatenate([data[:stop], np.resize(turn, beyond)])
        loop = ((start + shift) * OVERSAMPLING, (stop + shift) * OVERSAMPLING)
        end = stop + shift
    wanted = end * OVERSAMPLING + padding
    size = 1 << int(np.ceil(np.log2(len(data) + _GUARD + padding // OVERSAMPLING)))
    spectrum = np.fft.rfft(data, size)
    several = filtered and _filtered(zone)
    made = np.empty((LEVELS if several else 1, wanted), np.complex64)
    frequency = np.linspace(0, 1, len(spectrum))
    for level in range(len(made)):
        shaped = spectrum if level == 0 else spectrum * _response(frequency, level, zone.q_cb)
        fine = np.fft.irfft(shaped, size * OVERSAMPLING)[: wanted + 1] * OVERSAMPLING
        if loop is None:
            fine[end * OVERSAMPLING :] = 0
        made[level].real = fine[:-1]
        made[level].imag = np.diff(fine)
    return _Versions(made, loop, end * OVERSAMPLING)


def _response(frequency: NDArray[np.float64], level: int, q_cb: float) -> NDArray[np.float64]:
    """Return the gain of a resonant low-pass of second order; frequency 1 is the highest."""
    ratio2 = (frequency * 2.0 ** (level * LEVEL_CENTS / 1200)) ** 2
    q = max(10.0 ** ((q_cb / 10 - 3.01) / 20), 0.5)
    gain = 1 / np.sqrt((1 - ratio2) ** 2 + ratio2 / q**2)
    return np.asarray(gain / np.sqrt(max(q * np.sqrt(2), 1.0)))
