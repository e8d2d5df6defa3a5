"""Taking what an LSL stream brings, and finding the stream again when it was lost."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.instruments.arrivals import Arrivals
from stream.instruments.lsl.liblsl import LslClock
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
_LOOK_S = 0.2
_PAUSE_S = 0.5
_SILENT_NS = 2_000_000_000
_CORRECT_NS = 1_000_000_000
_FORGOTTEN_S = 2.0
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
        What has been pulled (`Pulled`), where a thread does it.
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
        self._thread: threading.Thread | None = None
        self._threaded = False
        self._resolver: Any = None
        self._inlet: Any = None
        self.layout = self._open(info)
        # Where liblsl writes numbers to; of text it makes arrays itself.
        self._row: NDArray[Any] | None = None
        self._rest: NDArray[Any] | None = None
        self._at_once = _AT_ONCE
        if self.layout.format != "string":
            dtype = np.dtype({"double64": "float64"}.get(self.layout.format, self.layout.format))
            row_bytes = self.layout.channels * dtype.itemsize
            self._at_once = max(1, min(_AT_ONCE, _AT_ONCE_BYTES // row_bytes))
            self._row = np.empty((1, self.layout.channels), dtype)
            self._rest = np.empty((self._at_once, self.layout.channels), dtype)

    def start(self, threaded: bool) -> None:
        """Forget what has come so far; with `threaded`, fill `arrivals` from now on."""
        if self._inlet is not None:
            self._inlet.flush()
        self._heard_ns = self._corrected_ns = time.monotonic_ns()
        self._threaded = threaded
        if threaded:
            self._begin(self._fill)

    def close(self) -> None:
        """Let go of the stream."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
        self._inlet = self._resolver = None
        self.arrivals.close()

    def pull(self, timeout_s: float) -> Pulled | None:
        """Return what has come, at once or when something does; None when nothing has."""
        if self.lost_ns is not None:
            return None
        try:
            # Before the wait, so that no sample waits for it.
            if time.monotonic_ns() - self._corrected_ns > _CORRECT_NS:
                self._corrected_ns = time.monotonic_ns()
                self._correct(self._inlet, self._host)
            values, stamps_s = self._take(timeout_s)
            now_ns = time.monotonic_ns()
            pulled = None
            if len(stamps_s):
                if self.correction_s:
                    stamps_s = stamps_s + self.correction_s
                pulled = Pulled(values, stamps_s, now_ns, self.outages)
                self._heard_ns, self._resolver = now_ns, None
            elif now_ns - self._heard_ns > _SILENT_NS and self._replaced():
                self._lose()
                return None
        except self._pylsl.util.LostError:
            self._lose()
            return None
        return pulled

    def _take(self, timeout_s: float) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return the first sample that comes, and what else is there then."""
        # `min_samples` of pylsl does the same, but always asks twice.
        inlet, row = self._inlet, self._row
        values, stamps_s = inlet.pull_chunk(timeout_s, 1, dest_obj=row, as_numpy=True)
        if len(stamps_s) and inlet.samples_available():
            rest, later_s = inlet.pull_chunk(0.0, self._at_once, dest_obj=self._rest, as_numpy=True)
            return np.concatenate((values, rest)), np.concatenate((stamps_s, later_s))
        # What is pulled next would be written over it.
        return values.copy(), stamps_s

    def _begin(self, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:
                self.failure = error

        self._thread = threading.Thread(target=run, name="lsl", daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        while not self._stop.is_set():
            if self.lost_ns is not None and not self._find():
                return
            pulled = self.pull(_PULL_S)
            if pulled is not None and not self.arrivals.put(pulled):
                self.overrun += len(pulled.stamps_s)

    def _lose(self) -> None:
        self._inlet = self._resolver = None
        # In this order: who sees a new number of outages has to see that there is one.
        self.lost_ns = time.monotonic_ns()
        self.outages += 1
        _log.warning("the LSL stream with %s is gone; looking for it", self._wanted)
        if not self._threaded:
            self._begin(self._find)

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
        # The first measurement takes half a second. It is not waited for where it will be none, on
        # this host, or what it was before.
        here = host == socket.gethostname()
        waited = not here and host != self._host
        try:
            correction_s = inlet.time_correction(_CORRECTION_S if waited else 0.0)
        except self._pylsl.util.TimeoutError:
            if waited:
                raise
            return
        # Machines may share a name, but hardly the time since they were started.
        self.correction_s = 0.0 if here and abs(correction_s) < _SAME_CLOCK_S else correction_s
        if self._clock.offset_ns:
            self._clock.measure()

    def _find(self) -> bool:
        """Look for the stream until it is connected again, or the run ends."""
        resolver = self._pylsl.ContinuousResolver(forget_after=_FORGOTTEN_S)
        told = ""
        while not self._stop.is_set():
            # A resolver asks twice a second, and known peers as well; this asks five times.
            seen = distinct([*self._pylsl.resolve_streams(_LOOK_S), *resolver.results()])
            found = [i for i in seen if self._wanted.matches(i) and i.uid() not in self._refused]
            if not found:
                continue
            try:
                self._open(only(found, self._wanted), self.layout)
            except _AnotherError as error:
                self._refused.add(found[0].uid())
                self.refused += 1
                _log.warning("%s", error)
            except ConfigError as error:
                if str(error) != told:
                    told = str(error)
                    _log.warning("%s", error)
                self._stop.wait(_PAUSE_S)
            else:
                _log.warning("the LSL stream with %s is back", self._wanted)
                self.found_ns = self._heard_ns = time.monotonic_ns()
                self.lost_ns = None
                return True
        return False

    def _replaced(self) -> bool:
        """Whether a silent stream has gone, with another in its place.

        A machine that loses its power says no farewell.
        """
        if self._resolver is None:
            self._resolver = self._pylsl.ContinuousResolver(forget_after=_FORGOTTEN_S)
        found = [i.uid() for i in self._resolver.results() if self._wanted.matches(i)]
        return bool(found) and self._uid not in found


class _AnotherError(ConfigError):
    """What has come back under the same name carries something else."""


def _difference(before: Layout, now: Layout) -> str:
    if (before.channels, before.rate_hz, before.format) != (now.channels, now.rate_hz, now.format):
        return ""
    if before.labels != now.labels:
        changed = [b for b, n in zip(before.labels, now.labels, strict=True) if b != n]
        return f", but channel '{changed[0]}' and maybe more have other labels"
    return ", but its unit or the units of its spikes have changed"
