"""A process that brings a box on a serial port to its safe state when the sink is killed.

Started as `python -m stream.loop.serial_guard FD SAFE`: the open port, inherited, and the message
in hexadecimal. It waits on stdin. What ends without a word there has died, and the message goes
out; any word says that the sink itself is through with the port.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

_PATIENCE_S = 1.0


def main(fd: int, safe: bytes) -> None:
    """Wait for the end of the sink; write the safe message unless it said a word."""
    # What ends the run, by Ctrl-C or by its terminal, ends the sink first.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if os.read(sys.stdin.fileno(), 1):
        return
    end = time.monotonic() + _PATIENCE_S
    # The port itself may be gone.
    with contextlib.suppress(OSError):
        while safe and (left := end - time.monotonic()) > 0:
            if select.select([], [fd], [], left)[1]:
                safe = safe[os.write(fd, safe) :]


if __name__ == "__main__":
    main(int(sys.argv[1]), bytes.fromhex(sys.argv[2]))
