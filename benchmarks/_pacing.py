"""How the rivals of the runtime are paced: as its own sources are."""

from __future__ import annotations

import time

from stream.runtime.clock import SPIN_NS


def wait_until(due_ns: int) -> None:
    """Sleep until shortly before a time (`time.monotonic_ns`), and watch the clock from there.

    It waits for the clock, for nobody: there is no event to wait for.
    """
    remaining_ns = due_ns - time.monotonic_ns() - SPIN_NS
    if remaining_ns > 0:
        time.sleep(remaining_ns / 1e9)
    while time.monotonic_ns() < due_ns:
        pass
