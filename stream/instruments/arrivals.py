"""What a reader thread has received, handed to a source whose worker is woken at once."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Arrivals(Generic[T]):
    """Items on their way from the thread that reads an instrument to the source that sends them.

    `fileno` is readable while items wait: a source names it in `Source.wakes`, and says in `due_ns`
    that it is due when `waiting`.

    Parameters
    ----------
    limit
        Items that may wait; a source that is not served for longer loses what comes then.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[T] = deque()
        self._lock = threading.Lock()
        # A pair of sockets rather than a pipe: Windows can wait for nothing else.
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable while items wait."""
        return self._ours.fileno()

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return bool(self._items)

    def put(self, item: T) -> bool:
        """Hand an item over; return False, with the item refused, when too many wait."""
        with self._lock:
            if len(self._items) >= self._limit:
                return False
            self._items.append(item)
            if len(self._items) == 1:
                # After `close` there is nobody to wake.
                with contextlib.suppress(OSError):
                    self._theirs.send(b"\0")
        return True

    def take(self) -> list[T]:
        """Return all that waits, the oldest first; an empty list when nothing does."""
        with self._lock:
            if not self._items:
                return []
            items = list(self._items)
            self._items.clear()
            self._ours.recv(16)
        return items

    def close(self) -> None:
        """Release the descriptors. What is put after this wakes nobody."""
        with self._lock:
            self._items.clear()
            self._ours.close()
            self._theirs.close()
