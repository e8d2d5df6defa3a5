"""Where segments and trials lie in the stretches of time that an import joins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from stream.errors import ConfigError, RecordingError
from stream.spikes.mapping import Column, GivenIn, Segments, TrialsMap, Variable, Where
from stream.spikes.recording import Floats, Trials
from stream.spikes.variables import Array, Variables


@dataclass(frozen=True)
class Stretch:
    """One contiguous piece of the session.

    `origin_s` is where it begins on the clock of its file, `start_s` on that of the recording.
    """

    origin_s: float
    start_s: float
    stop_s: float


class Layout:
    """Finds segments and trials in stretches that lie end to end.

    Parameters
    ----------
    source
        The variables of the files.
    stretches
        In order of time.
    width_s
        Width of a bin, None for spike times.
    """

    def __init__(self, source: Variables, stretches: list[Stretch], width_s: float | None) -> None:
        self.source = source
        self.stretches = stretches
        self.width_s = width_s

    def segment_starts(self, rule: Segments | str, times_of: Callable[[Where], Floats]) -> Floats:
        """Return where segments start, as `rule` says; `times_of` finds what a signal tells.

        Raises
        ------
        ConfigError
            A start lies outside of the recording.
        """
        starts = [np.array([stretch.start_s]) for stretch in self.stretches]
        if rule == "one":
            starts = starts[:1]
        if isinstance(rule, Segments) and rule.where is not None:
            starts.append(times_of(rule.where))
        elif isinstance(rule, Segments) and rule.starts is not None:
            for stretch, values in zip(
                self.stretches, self._per_stretch(rule.starts, "segments.starts"), strict=True
            ):
                numbers = np.asarray(values, dtype=np.float64)
                starts.append(self._places(numbers, rule.given_in, "segments.given_in", stretch))
        # Rounded, or the same start computed in two ways would count twice.
        ordered = np.unique(np.round(np.concatenate(starts), 9))
        first_s = self.stretches[0].start_s
        if ordered[0] < first_s - 1e-9 or ordered[-1] >= self.stretches[-1].stop_s:
            raise ConfigError(
                f"key 'segments': starts from {ordered[0]:g} to {ordered[-1]:g} s, but the"
                f" recording lasts from {first_s:g} to {self.stretches[-1].stop_s:g} s."
            )
        return np.append(first_s, ordered[1:])

    def stretches_as_trials(self) -> Trials:
        """Return the stretches themselves as trials."""
        return Trials(
            start_s=np.array([stretch.start_s for stretch in self.stretches]),
            stop_s=np.array([stretch.stop_s for stretch in self.stretches]),
        )

    def trials(self, trials: TrialsMap, file: str) -> Trials:
        """Return the trials that a mapping describes; `file` is named in errors.

        Raises
        ------
        ConfigError
            Starts, stops and columns do not come in equal numbers.
        RecordingError
            A trial stops before it starts.
        """
        whole = self.stretches_as_trials()
        n_each, start_s, stop_s = [1] * len(self.stretches), whole.start_s, whole.stop_s
        if (trials.start is None) != (trials.stop is None):
            raise ConfigError("key 'trials': 'start' and 'stop' come together.")
        if trials.start is not None and trials.stop is not None:
            starts = self._trial_times(trials.start, "trials.start", trials.given_in)
            stops = self._trial_times(trials.stop, "trials.stop", trials.given_in)
            n_each = [len(s) for s in starts]
            if n_each != [len(s) for s in stops]:
                raise ConfigError("key 'trials': there are not as many starts as stops.")
            start_s, stop_s = np.concatenate(starts), np.concatenate(stops)
            if trials.given_in != "seconds" and self.width_s is not None:
                stop_s = stop_s + self.width_s  # the bin that is named belongs to the trial
        if (stop_s <= start_s).any():
            bad = int(np.flatnonzero(stop_s <= start_s)[0])
            raise RecordingError(
                f"{file}: trial {bad} stops at {stop_s[bad]:g} s, not after its start"
                f" at {start_s[bad]:g} s."
            )
        order = np.argsort(start_s, kind="stable")
        columns = {
            name: self._column(column, f"trials.columns.{name}", n_each)[order]
            for name, column in trials.columns.items()
        }
        return Trials(start_s=start_s[order], stop_s=stop_s[order], columns=columns)

    def _trial_times(self, variable: Variable, key: str, given_in: GivenIn) -> list[Floats]:
        return [
            self._places(np.asarray(values, dtype=np.float64), given_in, key, stretch)
            for stretch, values in zip(
                self.stretches, self._per_stretch(variable, key), strict=True
            )
        ]

    def _column(self, column: Column, key: str, n_each: list[int]) -> Array:
        if column.labels is not None:
            lengths = [
                len(self.source.leaf(self.source.look_up(path, key, part)[0], path, key))
                for part in self.source.parts
                for path in column.labels.values()
            ]
            labels = np.repeat(list(column.labels) * len(self.source.parts), lengths)
            arrays = self._spread([labels], ", ".join(column.labels.values()), key)
        elif column.first:
            arrays = [self.source.read(column, key, part).ravel()[:1] for part in self.source.parts]
        else:
            arrays = self._per_stretch(column, key)
        if column.given_in is not None:
            arrays = [
                self._places(np.asarray(values, dtype=np.float64), column.given_in, key, stretch)
                for stretch, values in zip(self.stretches, arrays, strict=True)
            ]
        if [len(a) for a in arrays] != n_each:
            raise ConfigError(
                f"key '{key}': {sum(len(a) for a in arrays)} values for {sum(n_each)} trials."
            )
        values: Array = np.concatenate(arrays)
        return values // column.floor_divide if column.floor_divide is not None else values

    def _places(self, numbers: Floats, given_in: GivenIn, key: str, stretch: Stretch) -> Floats:
        """Return times on the clock of the recording for places in one stretch."""
        if given_in == "seconds":
            return numbers - stretch.origin_s + stretch.start_s
        if self.width_s is None:
            raise ConfigError(f"key '{key}': spike times have no bins; give it in seconds.")
        first = 1 if given_in == "bins from 1" else 0
        return stretch.start_s + (numbers - first) * self.width_s

    def _per_stretch(self, variable: Variable, key: str) -> list[Array]:
        """Return the values of each stretch: an array a part, or a value a trial of 3-D arrays."""
        arrays = [self.source.read(variable, key, part).ravel() for part in self.source.parts]
        return self._spread(arrays, variable.text, key)

    def _spread(self, arrays: list[Array], text: str, key: str) -> list[Array]:
        if len(arrays) == len(self.stretches):
            return arrays
        if len(arrays[0]) != len(self.stretches):
            raise ConfigError(
                f"key '{key}': {text} has {len(arrays[0])} values for {len(self.stretches)} trials."
            )
        return [arrays[0][i : i + 1] for i in range(len(self.stretches))]
