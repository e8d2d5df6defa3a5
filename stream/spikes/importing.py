"""From files and a mapping to a recording. Nothing here knows any laboratory's layout."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError, RecordingError
from stream.spikes.checks import check_recording, whole_counts
from stream.spikes.mapping import (
    Column,
    Counts,
    GivenIn,
    Mapping,
    Segments,
    Signal,
    Times,
    Variable,
)
from stream.spikes.nwb_write import Session
from stream.spikes.readers import Tree, describe, open_files
from stream.spikes.recording import Floats, Recording, Series, Trials
from stream.spikes.variables import Array, Variables
from stream.units import to_ns


@dataclass(frozen=True)
class Imported:
    """What an import made: the recording, what NWB wants beside it, and what the user should know.

    Attributes
    ----------
    remarks
        Sentences about what was left out, and about what looks odd.
    """

    recording: Recording
    session: Session
    resolution_s: float | None
    notes: tuple[str, ...]
    remarks: tuple[str, ...]


def import_files(paths: Sequence[Path], mapping: Mapping) -> Imported:
    """Read files as a mapping says.

    Raises
    ------
    ConfigError
        The mapping does not fit the files; the message names the key, and the variables there are.
    RecordingError
        A file cannot be read, or holds values that cannot be.
    """
    with ExitStack() as stack:
        return _Importer(mapping, paths, open_files(paths, mapping.files, stack)).run()


def list_variables(path: Path) -> list[str]:
    """Return a line for every variable of a file: its path, shape and type.

    Raises
    ------
    RecordingError
        The file cannot be read.
    """
    with ExitStack() as stack:
        return describe(open_files([path], {}, stack)[0])


@dataclass(frozen=True)
class _Stretch:
    """One contiguous piece of the session.

    `origin_s` is where it begins on the clock of its file, `start_s` on that of the recording.
    """

    origin_s: float
    start_s: float
    stop_s: float


class _Importer:
    def __init__(self, mapping: Mapping, paths: Sequence[Path], trees: list[Tree]) -> None:
        self.mapping = mapping
        self.paths = paths
        self.source = Variables(trees, mapping.parts)
        self.parts = self.source.parts
        self.remarks: list[str] = []
        self.stretches: list[_Stretch] = []
        self.width_s: float | None = None

    def run(self) -> Imported:
        mapping = self.mapping
        counts: Array | None = None
        times: tuple[Floats, ...] | None = None
        captured: list[tuple[str, ...]] = []
        if mapping.counts is not None:
            counts, captured = self._counts(mapping.counts)
            n_units = counts.shape[1]
        else:
            assert mapping.times is not None
            times, captured = self._times(mapping.times)
            n_units = len(times)
        start_s, stop_s = self.stretches[0].start_s, self.stretches[-1].stop_s
        names = self._unit_names(n_units, captured)
        behaviour = {
            name: self._series(signal, f"behaviour.{name}", signal.columns)
            for name, signal in mapping.behaviour.items()
        }
        rates = None
        if mapping.true_rates is not None:
            signal = Signal(
                **(mapping.true_rates.model_dump() | {"unit": "Hz"}),
            )
            rates = self._series(signal, "true_rates", names)
        recording = Recording(
            name=mapping.name or self.paths[0].stem,
            units=names,
            start_s=start_s,
            stop_s=stop_s,
            segment_starts_s=self._segments(),
            segment_stops_s=None,
            spike_times_s=times,
            counts=counts,
            width_s=self.width_s,
            behaviour=behaviour,
            true_rates=rates,
            trials=self._trials(),
            licence=mapping.licence,
        )
        if not mapping.units.keep_silent:
            recording = self._without_silent(recording)
        check_recording(recording, self.paths[0].name)
        self._look_odd(recording)
        return Imported(
            recording=recording,
            session=_session(mapping, self.paths),
            resolution_s=mapping.times.resolution if mapping.times else None,
            notes=(*mapping.notes, f"Imported from {', '.join(p.name for p in self.paths)}."),
            remarks=tuple(self.remarks),
        )

    # Spikes and stretches

    def _counts(self, counts: Counts) -> tuple[Array, list[tuple[str, ...]]]:
        key = "counts"
        tables = self.source.tables(counts, counts.axes, key)
        widths = {
            to_ns(self.source.number(counts.width, f"{key}.width", part)) / 1e9
            for part in self.parts
        }
        if len(widths) > 1:
            raise ConfigError(
                f"key '{key}.width': the parts have bins of {sorted(widths)} s; one width is"
                " needed for all."
            )
        self.width_s = width_s = widths.pop()
        if width_s <= 0:
            raise ConfigError(f"key '{key}.width': must be above 0 s, found {width_s} s.")
        if not all(len(table) for table in tables):
            raise RecordingError(
                f"{self.paths[0].name}: {counts.text} is empty; there must be at least one bin."
            )
        units = sorted({table.shape[1] for table in tables})
        if len(units) > 1:
            raise ConfigError(
                f"key '{key}': parts have {', '.join(map(str, units))} units; all must have the"
                " same, or state other axes in 'counts.axes'."
            )
        whole = whole_counts(np.concatenate(tables), f"{self.paths[0].name}: {counts.text}")
        origins = [self.source.number(counts.start, f"{key}.start", part) for part in self.parts]
        if len(origins) != len(tables):
            origins = [origins[0]] * len(tables)
        # One stretch stays on the clock of its file; several are laid end to end from 0.
        first_s = origins[0] if len(tables) == 1 else 0.0
        done = 0
        for origin_s, table in zip(origins, tables, strict=True):
            self.stretches.append(
                _Stretch(
                    origin_s, first_s + done * width_s, first_s + (done + len(table)) * width_s
                )
            )
            done += len(table)
        captured = [
            found.captured
            for path in counts.variable
            for found in self.source.look_up(path, key, self.parts[0])
        ]
        return whole, captured

    def _times(self, times: Times) -> tuple[tuple[Floats, ...], list[tuple[str, ...]]]:
        key = "times"
        per_part: list[dict[tuple[str, ...], Floats]] = []
        for part in self.parts:
            per_part.append(
                self._times_by_unit(times, part) if times.unit else self._times_found(times, part)
            )
        order = list(dict.fromkeys(unit for units in per_part for unit in units))
        if not any(len(t) for units in per_part for t in units.values()):
            raise RecordingError(f"{self.paths[0].name}: {times.text} holds not a single spike.")
        cursor_s = 0.0
        gathered: dict[tuple[str, ...], list[Floats]] = {unit: [] for unit in order}
        for part, units in zip(self.parts, per_part, strict=True):
            origin_s, end_s = self._span(times, part, list(units.values()))
            if len(self.parts) == 1:
                cursor_s = origin_s
            self.stretches.append(_Stretch(origin_s, cursor_s, cursor_s + end_s - origin_s))
            for unit in order:
                spikes = units.get(unit, np.empty(0))
                outside = int(((spikes < origin_s) | (spikes >= end_s)).sum())
                if outside:
                    raise ConfigError(
                        f"key '{key}.span': {outside} spikes of unit {' '.join(unit)} lie outside"
                        f" {origin_s:g} to {end_s:g} s."
                    )
                gathered[unit].append(spikes - origin_s + cursor_s)
            cursor_s += end_s - origin_s
        return tuple(np.concatenate(gathered[unit]) for unit in order), order

    def _times_found(self, times: Times, part: Tree) -> dict[tuple[str, ...], Floats]:
        """Every variable found is a unit."""
        units: dict[tuple[str, ...], Floats] = {}
        for path in times.variable or times.join:
            found = self.source.look_up(path, "times", part)
            if len(found) == 1 and isinstance(found[0].value, list):
                found = self.source.look_up(f"{path}{{*}}", "times", part)
            for one in found:
                spikes = self.source.leaf(one, path, "times")
                if spikes.size and spikes.dtype.kind not in "fiu":
                    raise ConfigError(f"key 'times': '{path}' holds {spikes.dtype}, not times.")
                if spikes.size and max(spikes.shape) != spikes.size:
                    raise ConfigError(
                        f"key 'times': '{path}' has shape {spikes.shape}; spike times of a unit"
                        " are one row or one column."
                    )
                name = one.captured or ((path,) if len(times.variable) > 1 else (str(len(units)),))
                seconds = spikes.astype(np.float64).ravel() * times.scale + times.offset
                units[name] = np.concatenate([units.get(name, np.empty(0)), seconds])
        return units

    def _times_by_unit(self, times: Times, part: Tree) -> dict[tuple[str, ...], Floats]:
        """One variable holds all times, another the unit of each."""
        assert times.unit is not None
        seconds = self.source.numbers(times, "times", part).ravel()
        ids = self.source.read(times.unit, "times.unit", part).ravel()
        if len(ids) != len(seconds):
            raise ConfigError(
                f"key 'times.unit': {times.unit.text} has {len(ids)} values for {len(seconds)}"
                " spike times."
            )
        order = np.argsort(seconds, kind="stable")
        if (np.diff(seconds) < 0).any():
            self.remarks.append("Spikes were not in order of time and were sorted.")
        seconds, ids = seconds[order], ids[order]
        return {(_text(unit),): seconds[ids == unit] for unit in np.unique(ids)}

    def _span(self, times: Times, part: Tree, spikes: list[Floats]) -> tuple[float, float]:
        if times.span is not None:
            span = self.source.numbers(times.span, "times.span", part).ravel()
            if len(span) < 2 or not span[0] < span[-1]:
                raise ConfigError(
                    f"key 'times.span': {times.span.text} must hold the start and the end of what"
                    f" was observed, found {span[:4]}."
                )
            return float(span[0]), float(span[-1])
        known = [s for s in spikes if len(s)]
        for name, signal in self.mapping.behaviour.items():
            if signal.time is not None:
                known.append(
                    self.source.numbers(signal.time, f"behaviour.{name}.time", part).ravel()
                )
        if not known:
            raise ConfigError(
                "key 'times.span': a part has no spikes, so its length must be stated by 'span'."
            )
        # Half open: the last one must lie before the end.
        return min(float(k.min()) for k in known), max(float(k.max()) for k in known) + 1e-9

    def _unit_names(self, n_units: int, captured: list[tuple[str, ...]]) -> tuple[str, ...]:
        units = self.mapping.units
        rows: list[tuple[str, ...]]
        if isinstance(units.names, Variable):
            values = self.source.read(units.names, "units.names", self.parts[0])
            values = values.reshape(len(values), -1) if values.shape[0] == n_units else values
            if values.shape[0] != n_units and values.size == n_units:
                values = values.reshape(n_units, 1)
            rows = [tuple(_text(v) for v in row) for row in np.atleast_2d(values)]
        elif units.names is not None:
            rows = [(name,) for name in units.names]
        elif len(captured) == n_units and all(captured):
            rows = captured
        else:
            rows = [(str(i),) for i in range(n_units)]
        if len(rows) != n_units:
            raise ConfigError(f"key 'units.names': {len(rows)} names for {n_units} units.")
        if units.format is None:
            return tuple("_".join(row) for row in rows)
        try:
            return tuple(units.format.format("", *row) for row in rows)
        except (IndexError, KeyError, ValueError, AttributeError):
            raise ConfigError(
                f"key 'units.format': '{units.format}' does not fit; there are {len(rows[0])}"
                " values a unit, written {1}, {2} and so on."
            ) from None

    # Signals

    def _series(self, signal: Signal, key: str, names: Sequence[str]) -> Series:
        tables = self.source.tables(signal, signal.axes, key)
        if len(tables) != len(self.stretches):
            raise ConfigError(
                f"key '{key}': {signal.text} has {len(tables)} parts, the spikes have"
                f" {len(self.stretches)}."
            )
        if tables[0].dtype.kind not in "fiub":
            raise ConfigError(f"key '{key}': {signal.text} holds {tables[0].dtype}, not numbers.")
        width = tables[0].shape[1]
        if not names:
            names = ("x", "y", "z")[:width] if width <= 3 else [str(i) for i in range(width)]
        if any(table.shape[1] != len(names) for table in tables):
            raise ConfigError(
                f"key '{key}': {signal.text} has {width} columns, and {len(names)} names"
                f" ({', '.join(list(names)[:6])})."
            )
        clocks = self._clocks(signal, key, tables)
        kept = [self._distinct(signal, key, clock) for clock in clocks]
        return Series(
            times_s=np.concatenate([clock[keep] for clock, keep in zip(clocks, kept, strict=True)]),
            values=np.concatenate(
                [table[keep] for table, keep in zip(tables, kept, strict=True)]
            ).astype(np.float64),
            columns=tuple(names),
            unit=signal.unit,
        )

    def _clocks(self, signal: Signal, key: str, tables: list[Array]) -> list[Floats]:
        """Return the times of the samples of each stretch, on the clock of the recording."""
        if signal.time is not None and signal.rate is not None:
            raise ConfigError(f"key '{key}': has both 'time' and 'rate'; one of them says when.")
        clocks: list[Floats] = []
        for i, (table, stretch) in enumerate(zip(tables, self.stretches, strict=True)):
            if signal.time is not None:
                part = self.parts[min(i, len(self.parts) - 1)]
                own = self.source.numbers(signal.time, f"{key}.time", part).ravel()
                clock = own - stretch.origin_s + stretch.start_s
                if len(clock) != len(table):
                    raise ConfigError(
                        f"key '{key}.time': {signal.time.text} has {len(clock)} times for"
                        f" {len(table)} samples of {signal.text}."
                    )
            elif signal.rate is not None:
                clock = stretch.start_s + np.arange(len(table)) / signal.rate
                if clock[-1] >= stretch.stop_s + 1 / signal.rate:
                    raise ConfigError(
                        f"key '{key}.rate': {len(table)} samples at {signal.rate:g} Hz last longer"
                        f" than the spikes ({stretch.stop_s - stretch.start_s:g} s)."
                    )
            else:
                clock = self._bin_clock(signal, key, len(table), stretch)
            clocks.append(clock)
        return clocks

    def _bin_clock(self, signal: Signal, key: str, n: int, stretch: _Stretch) -> Floats:
        if self.width_s is None:
            raise ConfigError(
                f"key '{key}': beside spike times a signal needs 'rate' (such as '60 Hz') or"
                " 'time' (the variable with its times)."
            )
        bins = round((stretch.stop_s - stretch.start_s) / self.width_s)
        if n != bins:
            raise ConfigError(
                f"key '{key}': {signal.text} has {n} samples for {bins} bins; state '{key}.axes',"
                " or 'rate' or 'time' if it has a clock of its own."
            )
        return np.asarray(stretch.start_s + np.arange(n) * self.width_s, dtype=np.float64)

    def _distinct(self, signal: Signal, key: str, clock: Floats) -> NDArray[np.bool_]:
        keep = np.append(True, np.diff(clock) != 0)
        repeated = int((~keep).sum())
        if repeated and signal.repeated_times == "refuse":
            raise ConfigError(
                f"key '{key}.time': {repeated} samples bear the same time as the one before;"
                " 'repeated_times: keep first' leaves them out."
            )
        if repeated:
            self.remarks.append(f"{key}: {repeated} samples with a repeated time were left out.")
        return keep

    # Segments and trials

    def _places(self, numbers: Floats, given_in: GivenIn, key: str, stretch: _Stretch) -> Floats:
        """Return times on the clock of the recording for places in one stretch."""
        if given_in == "seconds":
            return numbers - stretch.origin_s + stretch.start_s
        if self.width_s is None:
            raise ConfigError(f"key '{key}': spike times have no bins; give it in seconds.")
        first = 1 if given_in == "bins from 1" else 0
        return stretch.start_s + (numbers - first) * self.width_s

    def _per_stretch(self, variable: Variable, key: str) -> list[Array]:
        """Return the values of each stretch: an array a part, or a value a trial of 3-D arrays."""
        arrays = [self.source.read(variable, key, part).ravel() for part in self.parts]
        return self._spread(arrays, variable.text, key)

    def _spread(self, arrays: list[Array], text: str, key: str) -> list[Array]:
        if len(arrays) == len(self.stretches):
            return arrays
        if len(arrays[0]) != len(self.stretches):
            raise ConfigError(
                f"key '{key}': {text} has {len(arrays[0])} values for {len(self.stretches)} trials."
            )
        return [arrays[0][i : i + 1] for i in range(len(self.stretches))]

    def _segments(self) -> Floats:
        rule = self.mapping.segments
        starts = [np.array([stretch.start_s]) for stretch in self.stretches]
        if rule == "one":
            starts = starts[:1]
        if isinstance(rule, Segments) and rule.where is not None:
            starts.append(self._where(rule))
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

    def _where(self, rule: Segments) -> Floats:
        assert rule.where is not None
        found: NDArray[np.intp]
        series = self._series(rule.where, "segments.where", ())
        if rule.where.equals is not None:
            found = np.flatnonzero((series.values == rule.where.equals).all(axis=1))
        else:
            steps = np.linalg.norm(np.diff(series.values, axis=0), axis=1)
            found = 1 + np.flatnonzero(steps > rule.where.steps_over)
        if not len(found):
            raise ConfigError(f"key 'segments.where': nowhere in {rule.where.text} is this so.")
        return series.times_s[found]

    def _trials(self) -> Trials | None:
        trials = self.mapping.trials
        by_axis = self.mapping.counts is not None and "trial" in self.mapping.counts.axes
        if trials is None and not by_axis:
            return None
        n_each = [1] * len(self.stretches)
        start_s = np.array([stretch.start_s for stretch in self.stretches])
        stop_s = np.array([stretch.stop_s for stretch in self.stretches])
        if trials is None:
            return Trials(start_s=start_s, stop_s=stop_s)
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
                f"{self.paths[0].name}: trial {bad} stops at {stop_s[bad]:g} s, not after its start"
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
                for part in self.parts
                for path in column.labels.values()
            ]
            labels = np.repeat(list(column.labels) * len(self.parts), lengths)
            arrays = self._spread([labels], ", ".join(column.labels.values()), key)
        elif column.first:
            arrays = [self.source.read(column, key, part).ravel()[:1] for part in self.parts]
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

    # Afterwards

    def _without_silent(self, recording: Recording) -> Recording:
        if recording.counts is not None:
            alive = np.flatnonzero(recording.counts.sum(axis=0) > 0)
        else:
            assert recording.spike_times_s is not None
            alive = np.flatnonzero([len(t) > 0 for t in recording.spike_times_s])
        silent = [u for i, u in enumerate(recording.units) if i not in set(alive)]
        if not silent:
            return recording
        self.remarks.append(
            f"{len(silent)} units without a single spike were left out: {', '.join(silent)}."
        )
        rates = recording.true_rates
        return replace(
            recording,
            units=tuple(recording.units[i] for i in alive),
            counts=None if recording.counts is None else recording.counts[:, alive],
            spike_times_s=None
            if recording.spike_times_s is None
            else tuple(recording.spike_times_s[i] for i in alive),
            true_rates=None
            if rates is None
            else replace(
                rates,
                values=rates.values[:, alive],
                columns=tuple(rates.columns[i] for i in alive),
            ),
        )

    def _look_odd(self, recording: Recording) -> None:
        if recording.counts is not None and len(recording.counts) < len(recording.units):
            self.remarks.append(
                f"{len(recording.counts)} bins of {len(recording.units)} units: if it is the other"
                " way round, state 'counts.axes: unit x time'."
            )


def _text(value: Any) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _session(mapping: Mapping, paths: Sequence[Path]) -> Session:
    given = {key: value for key, value in mapping.session if value not in (None, ())}
    if "description" not in given:
        given["description"] = (
            f"Spike recording imported from {', '.join(p.name for p in paths)}; nothing more is"
            " known of the session."
        )
    start = given.get("start")
    if start is not None and start.tzinfo is None:
        raise ConfigError("key 'session.start': needs a time zone, as in 2020-01-31T12:00:00Z.")
    return Session(**given)
