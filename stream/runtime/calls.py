"""Calling nodes: the supervisor sees which one is at work, and each is charged for its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from stream.runtime.messages import Mark
from stream.runtime.running import Running


class Calls:
    """Calls the nodes of one worker. What a node raises is told to `failed` and goes no further."""

    def __init__(self, mark: Mark, failed: Callable[[Running, BaseException], None]) -> None:
        self._mark = mark
        self._failed = failed
        self._caller: Running | None = None
        self._cpu_ns = time.thread_time_ns()

    def call(self, running: Running, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of a node and return what it gave as a tuple, an empty one if it raised."""
        caller = self._caller
        if caller is not None:
            self._charge(caller)
        self._caller = running
        self._mark.enter(running.number, time.monotonic_ns())
        try:
            result = method(*arguments)
            return tuple(result) if result is not None else ()
        except (Exception, SystemExit) as error:
            self._failed(running, error)
            return ()
        finally:
            self._charge(running)
            self._caller = caller
            self._mark.leave(time.monotonic_ns())

    def due(self, running: Running) -> int | None:
        """Ask when a node is due. Sources prepare packets in there, so it may fail like a call."""
        try:
            return running.node.due_ns()
        except (Exception, SystemExit) as error:
            self._failed(running, error)
            return None

    def skip(self) -> None:
        """Charge no node for the CPU time since the last call."""
        self._cpu_ns = time.thread_time_ns()

    def _charge(self, running: Running) -> None:
        """Charge a node for the CPU time since the last call, reading its packet included."""
        now_ns = time.thread_time_ns()
        running.cpu_ns += now_ns - self._cpu_ns
        self._cpu_ns = now_ns
