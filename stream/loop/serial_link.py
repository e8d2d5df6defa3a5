"""A serial port that may be unplugged and come back, guarded against the death of this process."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from stream.units import to_ns

if TYPE_CHECKING:
    import serial

# pyserial tries for ever to write to a full port when asked not to wait at all.
_WRITE_S = 0.02
_RETRY_NS = to_ns(0.25)
_DRAIN_S = 0.5
_LINE_LIMIT_BYTES = 256
_READ_BYTES = 4096
_GUARD_S = 2.0


class SerialLink:
    """Writes messages to a port and reads lines from it, and never raises once it is open.

    Attributes
    ----------
    trouble
        Why the port went away last; empty while it has not.
    outages
        How often it did.
    too_long
        Bytes that came without an end of line and were thrown away.
    """

    def __init__(self, port: str, baud: int, safe: bytes) -> None:
        """Open the port, and start the process that sends `safe` when this one is killed.

        Raises
        ------
        OSError
            It cannot be opened.
        ValueError
            It cannot have this speed.
        """
        self.trouble = ""
        self.outages = 0
        self.too_long = 0
        self._port, self._baud, self._safe = port, baud, safe
        self._serial: serial.Serial | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._retry_ns = 0
        self._rest = b""
        self._open()

    @property
    def is_open(self) -> bool:
        """Whether the port is there."""
        return self._serial is not None

    def send(self, message: bytes) -> bool:
        """Write a message; False where the port is not there or does not take it."""
        if self._serial is None:
            return False
        try:
            self._serial.write(message)
        except OSError as error:
            # Half a message may be on its way: only a new beginning is sure to be understood.
            self._go_away(str(error))
            return False
        return True

    def lines(self) -> list[bytes]:
        """Return the lines that have come, without their ends; never waits."""
        if self._serial is None:
            return []
        try:
            data = self._serial.read(_READ_BYTES)
        except OSError as error:
            self._go_away(str(error))
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_LIMIT_BYTES:
            self.too_long += len(self._rest)
            self._rest = b""
        return [line.strip() for line in lines]

    def come_back(self) -> bool:
        """Try a few times a second to open a port that went away; True when it has come back."""
        now_ns = time.monotonic_ns()
        if self._serial is not None or now_ns < self._retry_ns:
            return False
        self._retry_ns = now_ns + _RETRY_NS
        try:
            self._open()
        except (OSError, ValueError):
            return False
        return True

    def close(self) -> None:
        """Close the port when what was written is out, or after half a second."""
        if self._serial is None:
            return
        end = time.monotonic() + _DRAIN_S
        try:
            while self._serial.out_waiting and time.monotonic() < end:
                time.sleep(0.001)
        except OSError as error:
            self._go_away(str(error))
        self._leave()

    def _open(self) -> None:
        import serial

        self._serial = serial.Serial(
            self._port, self._baud, timeout=0, write_timeout=_WRITE_S, exclusive=_exclusive()
        )
        self._rest = b""
        if sys.platform != "win32":
            fd = self._serial.fileno()
            command = [sys.executable, "-m", "stream.loop.serial_guard", str(fd), self._safe.hex()]
            self._guard = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[fd],
                start_new_session=True,
            )  # fmt: skip

    def _go_away(self, why: str) -> None:
        self.trouble = why
        self.outages += 1
        self._retry_ns = time.monotonic_ns() + _RETRY_NS
        self._leave()

    def _leave(self) -> None:
        port, self._serial = self._serial, None
        guard, self._guard = self._guard, None
        if guard is not None:
            # It holds the port open: a port that is back could not be opened meanwhile.
            try:
                guard.communicate(b".", timeout=_GUARD_S)
            except subprocess.TimeoutExpired:
                guard.kill()
                guard.wait()
        if port is not None:
            port.close()


def _exclusive() -> bool | None:
    """Whether to ask for the port alone; Windows always gives it so."""
    return True if sys.platform != "win32" else None
