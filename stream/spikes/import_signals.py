"""Signals of an import: samples in order, each with its time on the clock of the recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.spikes.import_layout import Stretch
from stream.spikes.mapping import Signal, Times, Where
from stream.spikes.recording import Floats, Series
from stream.spikes.variables import Array, Variables


class Signals:
    """Reads signals beside spikes that lie in stretches of time.

    Parameters
    ----------
    source
        The variables of the files.
    stretches
        Of the spikes, in order of time.
    width_s
        Width of a bin, None for spike times.
    times
        What the mapping says of spike times, None for counts.
    remarks
        Where to say what was left out.
    """

    def __init__(
        self,
        source: Variables,
        stretches: list[Stretch],
        width_s: float | None,
        times: Times | None,
        remarks: list[str],
    ) -> None:
        self.source = source
        self.parts = source.parts
        self.stretches = stretches
        self.width_s = width_s
        self.times = times
        self.remarks = remarks

    def series(self, signal: Signal, key: str, names: Sequence[str]) -> Series:
        """Return a signal with the times of its samples; `key` is named in errors.

        Raises
        ------
        ConfigError
            It does not fit the stretches, the names of its columns, or its times.
        """
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
        kept = [
            self._distinct(signal, key, clock) & (clock < stretch.stop_s - 1e-9)
            if signal.rate is not None
            else self._distinct(signal, key, clock)
            for clock, stretch in zip(clocks, self.stretches, strict=True)
        ]
        return Series(
            times_s=np.concatenate([clock[keep] for clock, keep in zip(clocks, kept, strict=True)]),
            values=np.concatenate(
                [table[keep] for table, keep in zip(tables, kept, strict=True)]
            ).astype(np.float64),
            columns=tuple(names),
            unit=signal.unit,
        )

    def begins(self, where: Where) -> Floats:
        """Return the times at which a signal says that a segment begins.

        Raises
        ------
        ConfigError
            It says so nowhere.
        """
        found: NDArray[np.intp]
        series = self.series(where, "segments.where", ())
        if where.equals is not None:
            found = np.flatnonzero((series.values == where.equals).all(axis=1))
        else:
            steps = np.linalg.norm(np.diff(series.values, axis=0), axis=1)
            found = 1 + np.flatnonzero(steps > where.steps_over)
        if not len(found):
            raise ConfigError(f"key 'segments.where': nowhere in {where.text} is this so.")
        return series.times_s[found]

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
                times = self.times
                # Beside spike times without a span, the clock of the file begins with the signal.
                zero_s = stretch.origin_s if times is None or times.span is not None else 0.0
                first_s = stretch.start_s + zero_s - stretch.origin_s
                clock = first_s + np.arange(len(table)) / signal.rate
                more_s = first_s + len(table) / signal.rate - stretch.stop_s
                if more_s >= max(2 / signal.rate, self.width_s or 0):
                    raise ConfigError(
                        f"key '{key}.rate': {len(table)} samples at {signal.rate:g} Hz last"
                        f" {more_s:g} s longer than the spikes"
                        f" ({stretch.stop_s - stretch.start_s:g} s)."
                    )
            else:
                clock = self._bin_clock(signal, key, len(table), stretch)
            clocks.append(clock)
        return clocks

    def _bin_clock(self, signal: Signal, key: str, n: int, stretch: Stretch) -> Floats:
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
