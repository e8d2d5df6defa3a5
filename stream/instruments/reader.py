"""A thread that reads an instrument, and finds it again when it was lost."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod

from stream.errors import InnervateError

PAUSE_S = 0.25
"""Between two attempts to reach an instrument: it is back within a second of being back."""
_CLOSE_S = 3.0
_LOGGED_ATTEMPTS = 3

_log = logging.getLogger(__name__)


class Reader(ABC):
    """Connects, reads until the connection is lost, and begins again.

    Attributes
    ----------
    losses
        What was refused or did not fit, by reason. Only the thread changes it.
    lost_ns
        Since when the instrument has been away; None while it is there.
    outages, attempts
        How often it was lost, and how often it was tried to reach it again.
    failure
        What ended the thread against all expectation; its source fails with it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.losses: dict[str, int] = {}
        self.lost_ns: int | None = None
        self.outages = 0
        self.attempts = 0
        self.failure: Exception | None = None
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    @abstractmethod
    def connect(self) -> None:
        """Reach the instrument.

        Raises
        ------
        OSError
            It is not there.
        InnervateError
            It is there, and cannot be used; the message says why.
        """

    @abstractmethod
    def read(self) -> None:
        """Hand on what comes until the connection is lost or `stopping` is set."""

    @abstractmethod
    def disconnect(self) -> None:
        """Release the connection, whatever state it is in."""

    @abstractmethod
    def on_lost(self) -> None:
        """Tell the source, in order with what was read, that the connection was lost."""

    def start(self, connected: bool) -> None:
        """Begin to read; `connected` says whether `connect` was called already."""
        self._connected = connected
        self._thread.start()

    def close(self) -> None:
        """Stop reading. A thread that is stuck is left to the end of the process."""
        self.stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_S)

    def lose(self, reason: str, count: int = 1) -> None:
        """Count something that was refused or did not fit; the first of a reason is logged."""
        if count:
            if reason not in self.losses:
                _log.warning("%s: %d %s; more are only counted", self.name, count, reason)
            self.losses[reason] = self.losses.get(reason, 0) + count

    def _run(self) -> None:
        try:
            self._keep_reading()
        except Exception as error:
            self.failure = error
            self.on_lost()

    def _keep_reading(self) -> None:
        while not self.stopping.is_set():
            if not self._connected and not self._attempt():
                self.stopping.wait(PAUSE_S)
                continue
            self._connected = False
            try:
                self.read()
            except (OSError, InnervateError) as error:
                _log.warning("%s: %s", self.name, error)
            self.disconnect()
            if not self.stopping.is_set():
                self.outages += 1
                self.lost_ns = time.monotonic_ns()
                self._failed = 0
                _log.warning("%s was lost; trying to reach it again", self.name)
                self.on_lost()

    _failed = 0

    def _attempt(self) -> bool:
        self.attempts += 1
        try:
            self.connect()
        except (OSError, InnervateError) as error:
            self.disconnect()
            self._failed += 1
            if self._failed <= _LOGGED_ATTEMPTS:
                _log.warning("%s is not back: %s", self.name, error)
            return False
        if self.lost_ns is not None:
            away_s = (time.monotonic_ns() - self.lost_ns) / 1e9
            _log.warning("%s is back after %.1f s", self.name, away_s)
        self.lost_ns = None
        return True
