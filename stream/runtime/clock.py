"""Waiting: for sockets and for a point in time, whichever comes first."""

from __future__ import annotations

import ctypes
import select
import sys
import time
from typing import Any

import zmq

SPIN_NS = 300_000
"""How long before a deadline a paced source stops sleeping and watches."""

_PR_SET_TIMERSLACK = 29


def sharpen_timers() -> None:
    """Ask the kernel to wake this thread when it asks to be, not 50 us later. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def readable(socket: zmq.Socket[Any]) -> bool:
    """Whether a socket has something to read now."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


class Waiter:
    """Waits until something it watches can be read, or until a deadline.

    Deadlines are absolute, on `time.monotonic_ns`. `zmq_poll` counts in whole milliseconds, so
    the wait itself is a `select` on the sockets' file descriptors, which counts in microseconds.
    """

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._fds: list[int] = []

    def add(self, socket: zmq.Socket[Any]) -> None:
        """Watch one more socket for reading."""
        self._poller.register(socket, zmq.POLLIN)
        self._fds.append(socket.fileno())

    def add_file(self, descriptor: int) -> None:
        """Watch a file descriptor too, which is no ZeroMQ socket."""
        self._fds.append(descriptor)

    def wait(self, until_ns: int) -> bool:
        """Sleep; return True when something may be ready, False at `until_ns`."""
        remaining = until_ns - time.monotonic_ns()
        if remaining <= 0:
            return False
        # The descriptors of ZeroMQ signal changes only: what is ready must be asked for first.
        return bool(self._poller.poll(0) or select.select(self._fds, (), (), remaining / 1e9)[0])

    def watch(self, until_ns: int) -> bool:
        """Do what `wait` does, awake: a deadline is met to microseconds, for all of a core."""
        while time.monotonic_ns() < until_ns:
            if self._poller.poll(0):
                return True
        return False
