"""From a recording to what training sees: bins, parts that never mix, and held-out units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError, RecordingError
from stream.spikes.recording import Recording, bin_recording

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.15


@dataclass(frozen=True)
class SpikeData:
    """Binned spikes of one recording, or a part of it.

    Attributes
    ----------
    name, units, width_s
        Of the recording; width of a bin.
    counts
        (bins, units) float32.
    segment
        (bins,) int64, different from one contiguous stretch to the next.
    behaviour, columns, behaviour_unit
        (bins, d) float32 decoded signal, NaN where unknown, names of its columns and its unit;
        d is 0 without behaviour.
    true_rates
        (bins, units) expected spikes per bin, for simulated units.
    trial
        (bins,) int64 number of the trial, -1 outside.
    part
        (bins,) int8 index into `PARTS`, -1 for bins of no part.
    sha256, licence
        Of the file.
    """

    name: str
    units: tuple[str, ...]
    width_s: float
    counts: NDArray[np.float32]
    segment: NDArray[np.int64]
    behaviour: NDArray[np.float32]
    columns: tuple[str, ...]
    behaviour_unit: str
    true_rates: NDArray[np.float64] | None
    trial: NDArray[np.int64]
    part: NDArray[np.int8]
    sha256: str = ""
    licence: str = ""

    def select(self, *parts: Part) -> SpikeData:
        """Return the bins of these parts, in order; a stretch that was cut gets new segments."""
        inside = np.isin(self.part, [PARTS.index(p) for p in parts])
        index = np.flatnonzero(inside)
        broken = np.ones(len(index), bool)
        broken[1:] = (np.diff(index) > 1) | (np.diff(self.segment[index]) != 0)
        return replace(
            self,
            counts=self.counts[index],
            segment=np.cumsum(broken) - 1,
            behaviour=self.behaviour[index],
            true_rates=None if self.true_rates is None else self.true_rates[index],
            trial=self.trial[index],
            part=self.part[index],
        )


def whole(recording: Recording, width_s: float, behaviour: str | None = None) -> SpikeData:
    """Bin a recording as it stands; every bin is in the test part.

    Raises
    ------
    ConfigError
        The recording has no such behaviour.
    RecordingError
        The bins do not fit the recording.
    """
    binned = bin_recording(recording, width_s)
    n_bins = len(binned.counts)
    if behaviour is not None and behaviour not in binned.behaviour:
        names = ", ".join(sorted(binned.behaviour)) or "none"
        raise ConfigError(
            f"{recording.name} has no behaviour named '{behaviour}'; it has: {names}."
        )
    series = recording.behaviour.get(behaviour) if behaviour is not None else None
    rates = None
    if recording.true_rates is not None:
        as_behaviour = replace(recording, behaviour={"rates": recording.true_rates})
        rates = bin_recording(as_behaviour, width_s).behaviour["rates"] * width_s
    return SpikeData(
        name=recording.name,
        units=binned.units,
        width_s=width_s,
        counts=binned.counts,
        segment=binned.segment,
        behaviour=(
            np.zeros((n_bins, 0), np.float32)
            if behaviour is None
            else binned.behaviour[behaviour].astype(np.float32)
        ),
        columns=() if series is None else series.columns,
        behaviour_unit="" if series is None else series.unit,
        true_rates=rates,
        trial=_trials(recording, binned.starts_ns)[0],
        part=np.full(n_bins, PARTS.index("test"), np.int8),
        sha256=recording.sha256,
        licence=recording.licence,
    )


def prepare(recording: Recording, width_s: float, behaviour: str | None = None) -> SpikeData:
    """Bin a recording and divide it into train, validation and test parts.

    Without a `split` column of the trials, the first 80 % of the trials train, or of the time where
    there are no trials, and the rest is the test part; the last 15 % of the train part are the
    validation part. A cut lies at the nearest segment start if segments are many.

    A `split` column (values `train`, and `test`, `valid` or `val`) says which trials are the test
    part; trials with the value `none` are in no part. Such trials are samples without an order
    that matters, and files group them by condition, so the validation part is 15 % of the train
    trials, spread evenly.

    Raises
    ------
    ConfigError
        The recording has no such behaviour.
    RecordingError
        The bins do not fit the recording, or a part would be empty.
    """
    data = whole(recording, width_s, behaviour)
    n_bins = len(data.counts)
    stated = _trials(recording, bin_recording(recording, width_s).starts_ns)[1]
    part = np.full(n_bins, PARTS.index("train"), np.int8)
    if stated is None:
        part[_cut(_TEST_SHARE, data.trial, data.segment) :] = PARTS.index("test")
        train = np.flatnonzero(part == PARTS.index("train"))
        held = train[_cut(_VALIDATION_SHARE, data.trial[train], data.segment[train]) :]
    else:
        part = stated
        trains = part == PARTS.index("train")
        numbers = np.unique(data.trial[trains & (data.trial >= 0)])
        passed = np.arange(len(numbers) + 1) * _VALIDATION_SHARE
        chosen = numbers[np.floor(passed[1:]) > np.floor(passed[:-1])]
        held = np.flatnonzero(trains & np.isin(data.trial, chosen))
    part[held] = PARTS.index("validation")
    for i, name in enumerate(PARTS):
        if not (part == i).any():
            raise RecordingError(
                f"{recording.name} is too short: its {name} part holds no bin of {n_bins}."
            )
    return replace(data, part=part)


def _trials(
    recording: Recording, starts_ns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int8] | None]:
    """Return the trial of each bin and, if the file says so, its part: train, test or none."""
    trial = np.full(len(starts_ns), -1, np.int64)
    if recording.trials is None or not len(recording.trials.start_s):
        return trial, None
    begin_ns = np.round(recording.trials.start_s * 1e9).astype(np.int64)
    end_ns = np.round(recording.trials.stop_s * 1e9).astype(np.int64)
    at = np.searchsorted(begin_ns, starts_ns, side="right") - 1
    inside = (at >= 0) & (starts_ns < end_ns[at])
    trial[inside] = at[inside]
    split = recording.trials.columns.get("split")
    if split is None:
        return trial, None
    test = PARTS.index("test")
    known = {"train": PARTS.index("train"), "test": test, "valid": test, "val": test, "none": -1}
    unknown = sorted({str(s) for s in split} - known.keys())
    if unknown:
        raise RecordingError(
            f"{recording.name}: the trials' column 'split' holds '{unknown[0]}'; it may hold"
            f" {', '.join(known)}."
        )
    parts = np.array([known[str(s)] for s in split], np.int8)
    # Bins between trials go with the trial before them.
    return trial, parts[np.maximum(at, 0)]


def _cut(share: float, trial: NDArray[np.int64], segment: NDArray[np.int64]) -> int:
    """Return the bin where the last `share` begins: at the start of a trial, else of a segment."""
    if (trial >= 0).any():
        numbers, first = np.unique(trial[trial >= 0], return_index=True)
        starts = np.flatnonzero(trial >= 0)[first]
        return int(starts[min(round((1 - share) * len(numbers)), len(numbers) - 1)])
    at = round((1 - share) * len(segment))
    starts = np.flatnonzero(np.diff(segment)) + 1
    if len(starts) < 20:
        return at
    return int(starts[np.argmin(np.abs(starts - at))])


def draw_held_out(units: Sequence[str], seed: int, share: float = 0.25) -> tuple[str, ...]:
    """Draw the units that are held out, in the recording's order."""
    order = np.random.default_rng(seed).permutation(len(units))
    return tuple(units[i] for i in sorted(order[: round(share * len(units))]))
