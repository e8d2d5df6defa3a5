"""MIDI devices on JACK, each a process of its own.

A client of JACK in the process of the tests could crash it when it is closed, and does when its
server has died.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading


class _Device:
    """A process with one port."""

    def __init__(self, role: str, client: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, role, client],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def close(self) -> None:
        """Pull its plug; more than once does no harm."""
        self._process.kill()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the double of a MIDI device has ended"
        return line.rstrip("\n")


class Keyboard(_Device):
    """A MIDI keyboard as a program sees it. `name` is what it is called by."""

    def __init__(self, name: str) -> None:
        super().__init__("keyboard", name)
        self.name = self._hear()

    def send(self, message: tuple[int, ...]) -> None:
        """Play a message."""
        self._tell(bytes(message).hex())


class Instrument(_Device):
    """What is played: what came to it, and which keys are down."""

    def __init__(self) -> None:
        super().__init__("instrument", "instrument")
        self._seen: list[list[int]] = []
        self._thread: threading.Thread | None = None

    def be_there_as(self, name: str) -> None:
        """Have a port that others connect to."""
        self._begin(f"virtual {name}")

    def connect(self, name: str) -> None:
        """Connect to a port as soon as it is there."""
        self._begin(f"connect {name}")

    def _begin(self, how: str) -> None:
        self._tell(how)
        assert self._hear() == "ready"
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._seen.append(list(bytes.fromhex(line)))

    @property
    def messages(self) -> list[list[int]]:
        """What came, without Active Sensing."""
        return [message for message in self.all if message != [0xFE]]

    @property
    def all(self) -> list[list[int]]:
        """What came."""
        return list(self._seen)

    @property
    def down(self) -> set[int]:
        """The keys that are down."""
        keys: set[int] = set()
        for message in self.messages:
            if message[0] & 0xF0 == 0x90 and message[2]:
                keys.add(message[1])
            elif message[0] & 0xF0 in (0x80, 0x90):
                keys.discard(message[1])
        return keys


def answers() -> bool:
    """Tell whether a JACK server is there for this process."""
    return not subprocess.run([sys.executable, __file__, "ask", "probe"], check=False).returncode


def _ask(client: str) -> None:
    import rtmidi

    try:
        rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name=client)
    except rtmidi.RtMidiError:
        os._exit(1)


def _play(client: str) -> None:
    import rtmidi

    midi = rtmidi.MidiOut(rtapi=rtmidi.API_UNIX_JACK, name=client)
    midi.open_virtual_port("keys")
    print(f"{client}:keys", flush=True)
    for line in sys.stdin:
        midi.send_message(list(bytes.fromhex(line)))


def _be_played(client: str) -> None:
    import time

    import rtmidi

    midi = rtmidi.MidiIn(rtapi=rtmidi.API_UNIX_JACK, name=client)
    midi.ignore_types(active_sense=False)
    midi.set_callback(lambda event, _: print(bytes(event[0]).hex(), flush=True))
    how, name = sys.stdin.readline().split()
    if how == "virtual":
        midi.open_virtual_port(name)
    else:
        while not (found := [at for at, port in enumerate(midi.get_ports()) if name in port]):
            time.sleep(0.02)  # Ports tell nobody that they are there.
        (number,) = found
        midi.open_port(number)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    {"keyboard": _play, "instrument": _be_played, "ask": _ask}[sys.argv[1]](sys.argv[2])
    os._exit(0)
