"""A live MIDI port, by way of the process that guards it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable

from stream.errors import ConfigError
from stream.music.held import Message
from stream.music.midi.midi_guard import FAILED, OPENED
from stream.music.midi.midi_system import Api
from stream.units import to_ns

# So much goes into a pipe in one piece, or, when it is full, not at all.
_PIECE = 4095
_OPEN_S = 20.0
_CLOSE_S = 3.0
_FIRST_PAUSE_NS, _LONGEST_PAUSE_NS = to_ns(0.5), to_ns(8.0)


class MidiPort:
    """Sends messages to a port and opens it again when it went away.

    Attributes
    ----------
    name
        Of the port, as the system has it; empty until it is open.
    outages
        How often the port went away, or the process that guards it ended.
    not_sent
        Messages for which there was no port.
    trouble
        Why nothing is sent at the moment; empty while it is.
    pid
        Of the process that guards the port.
    """

    def __init__(self, api: Api, kind: str, name: str) -> None:
        self.name = ""
        self.outages = 0
        self.not_sent = 0
        self.trouble = ""
        self._wanted = (api, kind, name)
        self._pause_ns = _FIRST_PAUSE_NS
        self._again_ns = 0
        self._said = b""
        self._guard: subprocess.Popen[bytes] | None = None
        self._start()

    @property
    def pid(self) -> int:
        """Of the process that guards the port; 0 while there is none."""
        return 0 if self._guard is None else self._guard.pid

    def wait_open(self, alive: Callable[[], None]) -> None:
        """Wait until the port is open, calling `alive` meanwhile.

        Raises
        ------
        ConfigError
            It cannot be opened.
        """
        end = time.monotonic() + _OPEN_S
        while not self.name and time.monotonic() < end:
            alive()
            time.sleep(0.01)  # Another process opens it, and can only be asked.
            self.look()
            if self.trouble:
                raise ConfigError(self.trouble)
        if not self.name:
            raise ConfigError(f"the MIDI port {self._wanted[2]!r} did not open in {_OPEN_S:g} s.")

    def send(self, messages: list[Message]) -> None:
        """Send messages, or count them where there is no port."""
        if self._guard is None or not self.name:
            self.not_sent += len(messages)
            return
        assert self._guard.stdin is not None
        data = b"".join(map(bytes, messages))
        try:
            for at in range(0, len(data), _PIECE):
                os.write(self._guard.stdin.fileno(), data[at : at + _PIECE])
        except BlockingIOError:
            self.not_sent += len(messages)
            self._lose("the process that guards the MIDI port hangs")
        except OSError:
            self.not_sent += len(messages)
            self.look()
            self._lose("the process that guards the MIDI port ended")

    def look(self) -> None:
        """See how the port does, and open it again when it is time for that."""
        if self._guard is None:
            if time.monotonic_ns() >= self._again_ns:
                self._start()
            return
        assert self._guard.stdout is not None
        with contextlib.suppress(BlockingIOError):
            self._said += os.read(self._guard.stdout.fileno(), 65536)
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            what, _, rest = line.decode(errors="replace").partition(" ")
            if what == OPENED:
                self.name, self.trouble, self._pause_ns = rest, "", _FIRST_PAUSE_NS
            elif what == FAILED:
                self._lose(rest)
            else:
                self._lose(f"the MIDI port {rest!r} went away")
        if self._guard is not None and (code := self._guard.poll()) is not None:
            self._lose(f"the process that guards the MIDI port ended ({code})")

    def close(self) -> None:
        """Have everything released, and leave the port."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        assert guard.stdin is not None
        guard.stdin.close()
        try:
            guard.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()
            self.trouble = "the process that guards the MIDI port hung: notes may still sound"
        assert guard.stdout is not None
        guard.stdout.close()

    def _start(self) -> None:
        self.name = ""
        self._said = b""
        self._guard = subprocess.Popen(
            [sys.executable, "-m", "stream.music.midi.midi_guard", *self._wanted],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            # Ctrl-C and the end of the node's own process must not reach it.
            process_group=0,
        )  # fmt: skip
        for pipe in (self._guard.stdin, self._guard.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)

    def _lose(self, why: str) -> None:
        if self._guard is None:
            return
        # Its own last words come first: they say more than that it is gone.
        self.outages += bool(self.name)
        self.name = ""
        self.trouble = why
        self._guard.kill()
        self._guard.wait()
        for pipe in (self._guard.stdin, self._guard.stdout):
            assert pipe is not None
            pipe.close()
        self._guard = None
        self._again_ns = time.monotonic_ns() + self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, _LONGEST_PAUSE_NS)
