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
        (bins,) int8 index into `PARTS`.
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


def prepare(recording: Recording, width_s: float, behaviour: str | None = None) -> SpikeData:
    """Bin a recording and divide it into train, validation and test parts.

    A `split` column of the trials (values `train`, and `test`, `valid` or `val`) says which trials
    are the test part. Without one, the first 80 % of the trials train, or of the time where there
    are no trials; the cut then lies at the nearest segment start if segments are many. The last
    15 % of the train part are the validation part.

    Raises
    ------
    ConfigError
        The recording has no such behaviour.
    RecordingError
        The bins do not fit the recording, or a part would be empty.
    """
    binned = bin_recording(recording, width_s)
    n_bins = len(binned.counts)
    if behaviour is not None and behaviour not in binned.behaviour:
        names = ", ".join(sorted(binned.behaviour)) or "none"
        raise ConfigError(
            f"{recording.name} has no behaviour named '{behaviour}'; it has: {names}."
        )
    trial, is_test = _trials(recording, binned.starts_ns)
    if is_test is None:
        is_test = np.arange(n_bins) >= _cut(_TEST_SHARE, trial, binned.segment)
    train = np.flatnonzero(~is_test)
    part = np.where(is_test, PARTS.index("test"), PARTS.index("train")).astype(np.int8)
    part[train[_cut(_VALIDATION_SHARE, trial[train], binned.segment[train]) :]] = 1
    for i, name in enumerate(PARTS):
        if not (part == i).any():
            raise RecordingError(
                f"{recording.name} is too short: its {name} part holds no bin of {n_bins}."
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
        trial=trial,
        part=part,
        sha256=recording.sha256,
        licence=recording.licence,
    )


def _trials(
    recording: Recording, starts_ns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Return the trial of each bin and, if the file says so, whether it is in the test part."""
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
    known = {"train": False, "test": True, "valid": True, "val": True}
    unknown = sorted({str(s) for s in split} - known.keys())
    if unknown:
        raise RecordingError(
            f"{recording.name}: the trials' column 'split' holds '{unknown[0]}'; it may hold"
            f" {', '.join(known)}."
        )
    flags = np.array([known[str(s)] for s in split])
    # Bins between trials go with the trial before them.
    return trial, flags[np.maximum(at, 0)]


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
