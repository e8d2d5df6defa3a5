"""SoundFont 2 files: what is in them, checked before anything of it is played."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError

_PRESET = np.dtype(
    [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")]
)
_BAG = np.dtype([("gen", "<u2"), ("mod", "<u2")])
_GEN = np.dtype([("what", "<u2"), ("amount", "<i2")])
_INSTRUMENT = np.dtype([("name", "S20"), ("bag", "<u2")])
_SAMPLE = np.dtype(
    [
        ("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop_start", "<u4"),
        ("loop_end", "<u4"), ("rate", "<u4"), ("root", "u1"), ("correction", "i1"),
        ("link", "<u2"), ("kind", "<u2"),
    ]
)  # fmt: skip
_TABLES = {
    b"phdr": _PRESET, b"pbag": _BAG, b"pgen": _GEN, b"inst": _INSTRUMENT, b"ibag": _BAG,
    b"igen": _GEN, b"shdr": _SAMPLE,
}  # fmt: skip

# Numbers of the generators, as in section 8.1 of the specification (SoundFont 2.04).
_FILTER_CUTOFF, _FILTER_Q, _FILTER_ENVELOPE, _PAN = 8, 9, 11, 17
_FILTER_STAGES, _VOLUME_STAGES = 25, 33
_INSTRUMENT_NUMBER, _KEYS, _VELOCITIES = 41, 43, 44
_ATTENUATION, _COARSE_TUNE, _FINE_TUNE = 48, 51, 52
_SAMPLE_NUMBER, _LOOPS, _SCALE, _EXCLUSIVE, _ROOT = 53, 54, 56, 57, 58
_FIXED_KEY, _FIXED_VELOCITY = 46, 47
# Pairs of generators that move a bound of the sample: by samples, and by 32768 of them.
_START, _END, _LOOP_START_PAIR, _LOOP_END_PAIR = (0, 4), (1, 12), (2, 45), (3, 50)
_DEFAULTS = {
    _FILTER_CUTOFF: 13500, _SCALE: 100, _ROOT: -1, _FIXED_KEY: -1, _FIXED_VELOCITY: -1,
    **dict.fromkeys((*range(25, 29), 30, *range(33, 37), 38), -12000),
}  # fmt: skip
# What only an instrument may say; at the level of a preset it is passed over.
_INSTRUMENT_ONLY = {0, 1, 2, 3, 4, 12, 45, 46, 47, 50, 54, 57, 58}
_RANGES = {_KEYS, _VELOCITIES}
_ROM, _VORBIS = 0x8000, 0x10
_MOST_ZONES = 20_000
# What synthesisers and fonts agree on since the first sound cards, though the specification says 1.
_ATTENUATION_SCALE = 0.4


@dataclass(frozen=True)
class Envelope:
    """Delay, attack, hold, decay and release in seconds; `sustain` as it stands in the file.

    For the volume `sustain` is in centibels below the peak and decay and release last for 100 dB;
    for the filter it is in tenths of a percent below the peak and they last for all of the way.
    `hold_by_key` and `decay_by_key` are in timecents for each key below 60.
    """

    delay: float
    attack: float
    hold: float
    decay: float
    sustain: float
    release: float
    hold_by_key: int
    decay_by_key: int


@dataclass(frozen=True)
class Zone:
    """One sample as a preset plays it, for a range of keys and of velocities.

    Attributes
    ----------
    keys, velocities
        Lowest and highest, both included.
    start, end, loop
        In samples of the file; `loop` is None for what is played once.
    rate_hz, root, tune_cents, scale_cents
        Of the sample; the key at which it sounds as recorded; added to the pitch; cents for each
        key from there.
    gain, pan
        Linear; -1 left to 1 right.
    exclusive
        Number of the group of which only one sounds at a time, or 0.
    fixed_key, fixed_velocity
        Played whatever was pressed; -1 where what was pressed counts.
    volume, filter_stages
        The two envelopes.
    cutoff_cents, cutoff_by_envelope_cents, q_cb
        Low-pass filter: cents above 8.176 Hz, what the envelope adds at its peak, and resonance in
        centibels.
    """

    keys: tuple[int, int]
    velocities: tuple[int, int]
    start: int
    end: int
    loop: tuple[int, int] | None
    rate_hz: float
    root: int
    tune_cents: float
    scale_cents: float
    gain: float
    pan: float
    exclusive: int
    fixed_key: int
    fixed_velocity: int
    volume: Envelope
    filter_stages: Envelope
    cutoff_cents: float
    cutoff_by_envelope_cents: float
    q_cb: float


class SoundFont:
    """An .sf2 file.

    Attributes
    ----------
    path
        Of the file.
    presets
        (bank, program) to name.
    samples
        (n,) int16, all samples of the file one after the other, read from disk when used.
    """

    def __init__(self, path: Path) -> None:
        """Read and check everything but the samples.

        Raises
        ------
        ConfigError
            The file is not there, is no SoundFont 2, or is damaged.
        """
        self.path = path
        try:
            self._data: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"the SoundFont {path} cannot be read ({why}).") from None
        chunks = self._chunks()
        tables = {name: self._table(chunks, name, dtype) for name, dtype in _TABLES.items()}
        start, size = chunks[b"smpl"]
        self.samples: NDArray[np.int16] = self._data[start : start + size // 2 * 2].view("<i2")
        self._samples = tables[b"shdr"]
        self._preset_bags = _bounds(self, tables[b"phdr"]["bag"], tables[b"pbag"])
        self._instrument_bags = _bounds(self, tables[b"inst"]["bag"], tables[b"ibag"])
        self._preset_gens = _bounds(self, tables[b"pbag"]["gen"], tables[b"pgen"])
        self._instrument_gens = _bounds(self, tables[b"ibag"]["gen"], tables[b"igen"])
        self._pgen, self._igen = tables[b"pgen"], tables[b"igen"]
        heads = tables[b"phdr"][:-1]
        self._numbers = {
            (int(head["bank"]), int(head["program"])): number for number, head in enumerate(heads)
        }
        if not self._numbers:
            raise self._damaged("it holds no preset")
        self.presets = {
            key: bytes(heads[number]["name"]).decode("latin-1").strip("\0 ")
            for key, number in self._numbers.items()
        }

    def zones(self, bank: int, program: int) -> list[Zone]:
        """Return what a preset plays.

        Raises
        ------
        ConfigError
            The file is damaged there, or its samples are packed (.sf3) or in the ROM of a card.
        KeyError
            There is no such preset.
        """
        number = self._numbers[bank, program]
        found: list[Zone] = []
        for preset in _with_globals(
            self._gens(self._preset_bags, number, self._preset_gens, self._pgen),
            _INSTRUMENT_NUMBER,
        ):
            instrument = preset.pop(_INSTRUMENT_NUMBER)
            if not 0 <= instrument < len(self._instrument_bags) - 1:
                raise self._damaged(f"instrument {instrument} of preset {number} is not there")
            for zone in _with_globals(
                self._gens(self._instrument_bags, instrument, self._instrument_gens, self._igen),
                _SAMPLE_NUMBER,
            ):
                if made := self._zone(preset, zone):
                    found.append(made)
                if len(found) > _MOST_ZONES:
                    raise self._damaged(f"preset {number} has more than {_MOST_ZONES} zones")
        return found

    def _gens(
        self, bags: NDArray[Any], number: int, gens: NDArray[Any], table: NDArray[Any]
    ) -> Iterator[dict[int, int]]:
        """Yield the generators of each zone of a preset or an instrument."""
        for bag in range(int(bags[number]), int(bags[number + 1])):
            part = table[int(gens[bag]) : int(gens[bag + 1])]
            yield dict(zip(part["what"].tolist(), part["amount"].tolist(), strict=True))

    def _zone(self, preset: dict[int, int], zone: dict[int, int]) -> Zone | None:
        """Join what a preset and an instrument say; None where no key can play it."""
        keys = _overlap(preset.get(_KEYS), zone.get(_KEYS))
        velocities = _overlap(preset.get(_VELOCITIES), zone.get(_VELOCITIES))
        number = zone[_SAMPLE_NUMBER]
        if not 0 <= number < len(self._samples) - 1:
            raise self._damaged(f"sample {number} is not there")
        sample = self._samples[number]
        if keys is None or velocities is None:
            return None
        if int(sample["kind"]) & (_ROM | _VORBIS):
            raise ConfigError(
                f"the SoundFont {self.path} has samples that are packed (.sf3) or in the ROM of a"
                " sound card; take an .sf2 that holds its samples."
            )

        def of(what: int) -> int:
            own = zone.get(what, _DEFAULTS.get(what, 0))
            return own + (0 if what in _INSTRUMENT_ONLY else preset.get(what, 0))

        def moved(bound: str, pair: tuple[int, int]) -> int:
            return int(sample[bound]) + of(pair[0]) + 32768 * of(pair[1])

        start, end = moved("start", _START), moved("end", _END)
        rate = int(sample["rate"])
        if not (0 <= start < end <= len(self.samples) and 400 <= rate <= 400_000):
            raise self._damaged(
                f"sample {number} is said to lie at {start} to {end} of {len(self.samples)}, at"
                f" {rate} Hz"
            )
        loop = (moved("loop_start", _LOOP_START_PAIR), moved("loop_end", _LOOP_END_PAIR))
        looped = of(_LOOPS) & 3 in (1, 3) and start <= loop[0] < loop[1] <= end
        root = of(_ROOT) if 0 <= of(_ROOT) <= 127 else min(int(sample["root"]), 127)
        tune = 100 * of(_COARSE_TUNE) + of(_FINE_TUNE) + int(sample["correction"])
        attenuation_cb = min(max(_ATTENUATION_SCALE * of(_ATTENUATION), 0), 1440)
        return Zone(
            keys=keys, velocities=velocities, start=start, end=end,
            loop=loop if looped else None, rate_hz=float(rate), root=root,
            tune_cents=float(tune), scale_cents=float(min(max(of(_SCALE), 0), 1200)),
            gain=10.0 ** (-attenuation_cb / 200), pan=min(max(of(_PAN) / 500, -1.0), 1.0),
            exclusive=of(_EXCLUSIVE), fixed_key=min(of(_FIXED_KEY), 127),
            fixed_velocity=min(of(_FIXED_VELOCITY), 127),
            volume=_envelope(of, _VOLUME_STAGES, 1440),
            filter_stages=_envelope(of, _FILTER_STAGES, 1000),
            cutoff_cents=float(min(max(of(_FILTER_CUTOFF), 1500), 13500)),
            cutoff_by_envelope_cents=float(min(max(of(_FILTER_ENVELOPE), -12000), 12000)),
            q_cb=float(min(max(of(_FILTER_Q), 0), 960)),
        )  # fmt: skip

    def _chunks(self) -> dict[bytes, tuple[int, int]]:
        """Return where the chunks inside of the lists of the file lie: name to start and size."""
        data = self._data
        size = len(data)
        if size < 12 or bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != b"sfbk":
            raise ConfigError(f"{self.path} is not a SoundFont 2 file (.sf2).")
        found: dict[bytes, tuple[int, int]] = {}
        for name, start, length in self._walk(12, size):
            if name != b"LIST":
                continue
            for inner, inner_start, inner_length in self._walk(start + 4, start + length):
                found.setdefault(inner, (inner_start, inner_length))
        missing = [name.decode() for name in (b"smpl", *_TABLES) if name not in found]
        if missing:
            raise self._damaged(f"it lacks {', '.join(missing)}")
        return found

    def _walk(self, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        while at + 8 <= end:
            name = bytes(self._data[at : at + 4])
            length = int.from_bytes(bytes(self._data[at + 4 : at + 8]), "little")
            if at + 8 + length > end:
                raise self._damaged(
                    f"'{name.decode('latin-1')}' at byte {at} is {length} bytes long, which is"
                    " more than there are"
                )
            yield name, at + 8, length
            at += 8 + length + length % 2

    def _table(
        self, chunks: dict[bytes, tuple[int, int]], name: bytes, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        start, size = chunks[name]
        if size % dtype.itemsize or size < dtype.itemsize:
            raise self._damaged(f"'{name.decode()}' has {size} bytes")
        return np.frombuffer(bytes(self._data[start : start + size]), dtype)

    def _damaged(self, what: str) -> ConfigError:
        return ConfigError(f"the SoundFont {self.path} is damaged: {what}.")


def _bounds(font: SoundFont, starts: NDArray[Any], table: NDArray[Any]) -> NDArray[Any]:
    """Return where the parts of a table begin, the last being where it ends."""
    bounds: NDArray[Any] = starts.astype(np.int64)
    if (np.diff(bounds) < 0).any() or bounds[-1] >= len(table) + 1:
        raise font._damaged("its tables do not fit each other")
    return bounds


def _with_globals(zones: Iterator[dict[int, int]], needs: int) -> Iterator[dict[int, int]]:
    """Yield the zones that name what they play, with what the first says of all of them."""
    common: dict[int, int] = {}
    for number, zone in enumerate(zones):
        if needs in zone:
            yield {**common, **zone}
        elif number == 0:
            common = zone


def _overlap(first: int | None, second: int | None) -> tuple[int, int] | None:
    low, high = 0, 127
    for given in (first, second):
        if given is not None:
            low, high = max(low, given & 0xFF), min(high, given >> 8 & 0xFF)
    return (low, high) if low <= high else None


def _envelope(of: Any, stage: int, deepest: int) -> Envelope:
    """Read the eight generators of an envelope, which follow each other from its delay on."""
    # The specification allows 20 s for delay and hold, 100 s for the others.
    delay, attack, hold, decay = (
        0.0 if of(stage + step) <= -12000 else 2.0 ** (min(of(stage + step), most) / 1200)
        for step, most in ((0, 5000), (1, 8000), (2, 5000), (3, 8000))
    )
    release = 2.0 ** (min(max(of(stage + 5), -12000), 8000) / 1200)
    return Envelope(
        delay, attack, hold, decay, float(min(max(of(stage + 4), 0), deepest)), release,
        *(min(max(of(stage + step), -1200), 1200) for step in (6, 7)),
    )  # fmt: skip
