"""A thread that takes what an LSL stream brings, and finds the stream again when it was lost."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.instruments.arrivals import Arrivals
from stream.instruments.lsl.library import LslClock
from stream.instruments.lsl.streams import (
    Layout,
    Wanted,
    describe,
    distinct,
    introduce,
    only,
)

_PULL_S = 0.1
_AT_ONCE = 1024
_AT_ONCE_BYTES = 4 * 1024 * 1024
_KEPT_S = 10
_KEPT_HUNDREDS = 1000
_WAITING = 20_000
_OPEN_S = 2.0
_CORRECTION_S = 2.0
_LOOK_S = 0.05
_PAUSE_S = 0.5
_SILENT_S = 2.0
_SAME_CLOCK_S = 0.01
_CLOSE_S = 3.0

_log = logging.getLogger(__name__)


class Pulled(NamedTuple):
    """Samples that came at once.

    Attributes
    ----------
    values
        (samples, channels); of text, an array of bytes objects.
    stamps_s
        When each was taken, in s on LSL's clock of this host.
    arrived_ns
        When they were here (`time.monotonic_ns`).
    connection
        How often the stream had been found again before.
    """

    values: NDArray[Any]
    stamps_s: NDArray[np.float64]
    arrived_ns: int
    connection: int


class Reader:
    """Takes samples as fast as a stream brings them.

    A stream that is lost is looked for until it is back, by its `source_id` where it has one. What
    comes back with other channels or another rate is left alone: it is another stream under the
    same name. Its own clock is corrected to this host's by LSL's own measurements, once a second; a
    sender on this host needs none.

    Attributes
    ----------
    arrivals
        What has been pulled (`Pulled`).
    overrun
        Samples that nobody took in time. Only the thread changes it.
    layout
        What the stream carries.
    lost_ns, found_ns
        Since when the stream has been away; None while it is there. When it was last connected.
    outages, refused
        How often it was lost, and how often what came back was refused.
    failure
        What has ended the thread, if anything has.
    correction_s
        By how much the sender's clock is behind LSL's clock of this host.
    """

    def __init__(self, pylsl: Any, info: Any, clock: LslClock) -> None:
        self.arrivals: Arrivals[Pulled] = Arrivals(_WAITING)
        self.overrun = 0
        self.lost_ns: int | None = None
        self.found_ns = 0
        self.failure: Exception | None = None
        self.outages = 0
        self.refused = 0
        self.correction_s = 0.0
        self._pylsl = pylsl
        self._clock = clock
        self._wanted = Wanted(info.name(), info.type(), info.source_id() or None)
        self._refused: set[str] = set()
        self._host = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lsl", daemon=True)
        self._inlet: Any = None
        self.layout = self._open(info)
        self._buffer: NDArray[Any] | None = None
        self._at_once = _AT_ONCE
        if self.layout.format != "string":
            dtype = np.dtype({"double64": "float64"}.get(self.layout.format, self.layout.format))
            row_bytes = self.layout.channels * dtype.itemsize
            self._at_once = max(1, min(_AT_ONCE, _AT_ONCE_BYTES // row_bytes))
            self._buffer = np.empty((self._at_once, self.layout.channels), dtype)

    def start(self) -> None:
        """Forget what has come so far and take what comes from now on."""
        self._inlet.flush()
        self._thread.start()

    def close(self) -> None:
        """Let go of the stream."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)
        self._inlet = None
        self.arrivals.close()

    def _open(self, info: Any, before: Layout | None = None) -> Layout:
        """Connect to a stream and return what it carries, which was `before`.

        Raises
        ------
        ConfigError
            It cannot be reached; `_AnotherError` when it is not as it was.
        """
        kept = _KEPT_S if info.nominal_srate() else _KEPT_HUNDREDS
        # Without liblsl's own recovery: it neither says that there was an outage nor looks at what
        # has come back.
        inlet = self._pylsl.StreamInlet(info, max_buflen=kept, recover=False)
        layout = describe(inlet)
        if before is not None and layout != before:
            raise _AnotherError(
                f"{introduce(info)} is not what it was before ({before}"
                f"{_difference(before, layout)}); start it as it was, or the run anew."
            )
        try:
            inlet.open_stream(_OPEN_S)
            self._correct(inlet, info.hostname())
        except (self._pylsl.util.LostError, self._pylsl.util.TimeoutError) as error:
            raise ConfigError(f"{introduce(info)} cannot be opened ({error}).") from None
        inlet.flush()
        self._inlet, self._uid, self._host = inlet, info.uid(), info.hostname()
        return layout

    def _correct(self, inlet: Any, host: str) -> None:
        # The first measurement takes half a second, and is spared a sender that was known before.
        known = host == self._host
        try:
            correction_s = inlet.time_correction(0.0 if known else _CORRECTION_S)
        except self._pylsl.util.TimeoutError:
            if known:
                return
            raise
        same = host == socket.gethostname() and abs(correction_s) < _SAME_CLOCK_S
        self.correction_s = 0.0 if same else correction_s
        self._clock.measure()

    def _run(self) -> None:
        try:
            self._follow()
        except Exception as error:
            self.failure = error

    def _follow(self) -> None:
        connection = 0
        while not self._stop.is_set():
            self._read(connection)
            if self._stop.is_set():
                return
            self.lost_ns = time.monotonic_ns()
            self.outages += 1
            connection += 1
            self._inlet = None
            _log.warning("the LSL stream with %s is gone; looking for it", self._wanted)
            if not self._find():
                return
            _log.warning("the LSL stream with %s is back", self._wanted)
            self.found_ns, self.lost_ns = time.monotonic_ns(), None

    def _read(self, connection: int) -> None:
        """Take samples until the stream is lost."""
        inlet = self._inlet
        corrected_s = heard_s = time.monotonic()
        resolver: Any = None
        while not self._stop.is_set():
            try:
                values, stamps_s = inlet.pull_chunk(
                    _PULL_S, self._at_once, dest_obj=self._buffer, min_samples=1, as_numpy=True
                )
                arrived_ns = time.monotonic_ns()
                if len(stamps_s):
                    stamps_s = stamps_s + self.correction_s
                    # The buffer is written again at once.
                    kept = values if self._buffer is None else values.copy()
                    if not self.arrivals.put(Pulled(kept, stamps_s, arrived_ns, connection)):
                        self.overrun += len(stamps_s)
                    resolver, heard_s = None, arrived_ns / 1e9
                elif resolver is None and arrived_ns / 1e9 - heard_s > _SILENT_S:
                    resolver = self._resolver()
                elif resolver is not None and self._replaced(resolver):
                    return
                if arrived_ns / 1e9 - corrected_s > 1.0:
                    corrected_s = arrived_ns / 1e9
                    self._correct(inlet, self._host)
            except self._pylsl.util.LostError:
                return

    def _find(self) -> bool:
        """Look for the stream until it is connected again, or the run ends."""
        resolver = self._resolver()
        told = ""
        while not self._stop.wait(_LOOK_S):
            found = [i for i in distinct(resolver.results()) if self._wanted.matches(i)]
            found = [i for i in found if i.uid() not in self._refused]
            if not found:
                continue
            try:
                self._open(only(found, self._wanted), self.layout)
                return True
            except _AnotherError as error:
                self._refused.add(found[0].uid())
                self.refused += 1
                _log.warning("%s", error)
            except ConfigError as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("%s", error)
                self._stop.wait(_PAUSE_S)
        return False

    def _replaced(self, resolver: Any) -> bool:
        """Whether a silent stream has gone, with another in its place.

        A machine that loses its power says no farewell.
        """
        found = [i.uid() for i in resolver.results() if self._wanted.matches(i)]
        return bool(found) and self._uid not in found

    def _resolver(self) -> Any:
        return self._pylsl.ContinuousResolver(forget_after=2.0)


class _AnotherError(ConfigError):
    """What has come back under the same name carries something else."""


def _difference(before: Layout, now: Layout) -> str:
    if (before.channels, before.rate_hz, before.format) != (now.channels, now.rate_hz, now.format):
        return ""
    if before.labels != now.labels:
        changed = [b for b, n in zip(before.labels, now.labels, strict=True) if b != n]
        return f", but channel '{changed[0]}' and maybe more have other labels"
    return ", but its unit or the units of its spikes have changed"
