"""From files and a mapping to a recording. Nothing here knows any laboratory's layout."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stream.errors import ConfigError, RecordingError
from stream.spikes.checks import check_recording, whole_counts
from stream.spikes.import_layout import Layout, Stretch
from stream.spikes.import_signals import Signals
from stream.spikes.mapping import Counts, Mapping, Signal, Times, Variable
from stream.spikes.nwb_write import Session
from stream.spikes.readers import Tree, describe, open_files
from stream.spikes.recording import Floats, Recording, Trials
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


class _Importer:
    def __init__(self, mapping: Mapping, paths: Sequence[Path], trees: list[Tree]) -> None:
        self.mapping = mapping
        self.paths = paths
        self.source = Variables(trees, mapping.parts)
        self.parts = self.source.parts
        self.remarks: list[str] = []
        self.stretches: list[Stretch] = []
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
        signals = Signals(self.source, self.stretches, self.width_s, mapping.times, self.remarks)
        behaviour = {
            name: signals.series(signal, f"behaviour.{name}", signal.columns)
            for name, signal in mapping.behaviour.items()
        }
        rates = None
        if mapping.true_rates is not None:
            signal = Signal(**(mapping.true_rates.model_dump() | {"unit": "Hz"}))
            rates = signals.series(signal, "true_rates", names)
        layout = Layout(self.source, self.stretches, self.width_s)
        recording = Recording(
            name=mapping.name or self.paths[0].stem,
            units=names,
            start_s=start_s,
            stop_s=stop_s,
            segment_starts_s=layout.segment_starts(mapping.segments, signals.begins),
            segment_stops_s=None,
            spike_times_s=times,
            counts=counts,
            width_s=self.width_s,
            behaviour=behaviour,
            true_rates=rates,
            trials=self._trials(layout),
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
                Stretch(origin_s, first_s + done * width_s, first_s + (done + len(table)) * width_s)
            )
            done += len(table)
        # Where trials are listed, the wildcard stands for them, not for units.
        captured = [
            found.captured
            for path in counts.variable
            if "trial" not in counts.axes
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
            self.stretches.append(Stretch(origin_s, cursor_s, cursor_s + end_s - origin_s))
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
            key = f"behaviour.{name}"
            if signal.time is not None:
                known.append(self.source.numbers(signal.time, f"{key}.time", part).ravel())
            elif signal.rate is not None:
                (samples,) = self.source.tables(signal, signal.axes, key, [part])
                known.append(np.array([0.0, len(samples) / signal.rate]))
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

    def _trials(self, layout: Layout) -> Trials | None:
        trials = self.mapping.trials
        if trials is not None:
            return layout.trials(trials, self.paths[0].name)
        by_axis = self.mapping.counts is not None and "trial" in self.mapping.counts.axes
        return layout.stretches_as_trials() if by_axis else None

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
        times_s = recording.spike_times_s
        if times_s is not None and all((t == np.floor(t)).all() for t in times_s):
            self.remarks.append(
                "All spike times are whole seconds: if they count samples or milliseconds, state"
                " 'times.scale', such as 1/30000."
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
