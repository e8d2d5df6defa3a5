"""The process that owns a MIDI port, so that notes end whatever happens to the node that plays.

Started as `python -m stream.music.midi.midi_guard API KIND NAME`, KIND being `port` or `virtual`.
It reads messages of three bytes each from stdin until that ends, which it does when the node is
killed as well; then it releases what is held. It says on stdout in one line what it opened or why
it could not, and in another one why it ended early.

While nothing else is to be said it sends Active Sensing, so that an instrument that knows it falls
silent by itself when this process is killed, too.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import Any, cast

from stream.errors import InnervateError
from stream.music.held import Held, to_bytes
from stream.music.midi.jack_server import JackServer
from stream.music.midi.midi_system import CLIENT, Api, find_port, load_rtmidi, midi_out
from stream.music.notes import ALL_NOTES_OFF, control
from stream.units import to_ns

OPENED, FAILED, GONE = "opened", "failed", "gone"
_ACTIVE_SENSING = b"\xfe"
_SENSE_NS = to_ns(0.25)
_LOOK_NS = to_ns(2.0)
_LAST_WORDS_S = 0.05


class Guard:
    """An open port, and what is held on it."""

    def __init__(self, api: Api, kind: str, name: str) -> None:
        """Open the port.

        Raises
        ------
        InnervateError
            It is not there, or there is no MIDI system.
        """
        self._out = midi_out(api)
        self._held = Held()
        self._channels: set[int] = set()
        self._virtual = kind == "virtual"
        if self._virtual:
            self.name = name
            self._out.open_virtual_port(name)
        else:
            names = self._out.get_ports()
            number = find_port(name, names)
            self.name = names[number]
            self._out.open_port(number, name="out")
        rtmidi = load_rtmidi()
        api = self._out.get_current_api()
        # A virtual port is where others receive from.
        probe = rtmidi.MidiIn if self._virtual else rtmidi.MidiOut
        self._probe = probe(rtapi=api, name=f"{CLIENT} look")
        self._jack = JackServer() if api == rtmidi.API_UNIX_JACK else None
        # Not every system lists the virtual ports of a program to that program itself.
        self._listed = self._is_listed()

    def send(self, data: bytes) -> None:
        """Send messages of three bytes each."""
        for at in range(0, len(data), 3):
            message = cast("tuple[int, int, int]", tuple(data[at : at + 3]))
            self._held.take(message)
            self._channels.add(message[0] & 0x0F)
            self._out.send_message(to_bytes(message))

    def sense(self) -> None:
        """Tell the receiver that somebody is still here."""
        self._out.send_message(_ACTIVE_SENSING)

    def is_gone(self) -> bool:
        """Tell whether the port is no longer there. Not to be asked more than once a second."""
        if self._jack is not None and self._jack.stands_still():
            return True
        return self._listed and not self._is_listed()

    def release(self) -> None:
        """Release what is held, then every note of each channel that was used."""
        for message in self._held.release():
            self._out.send_message(to_bytes(message))
        for channel in sorted(self._channels):
            self._out.send_message(to_bytes(control(ALL_NOTES_OFF, 0, channel)))

    def close(self) -> None:
        """Wait until what was sent is out: the end of the process leaves the port."""
        time.sleep(_LAST_WORDS_S)

    def _is_listed(self) -> bool:
        names: list[str] = self._probe.get_ports()
        return any(self.name in name for name in names)


def serve(guard: Guard, source: int) -> str:
    """Pass on what comes from a pipe until it ends; return why it ended early, or nothing."""
    rest = b""
    sense_ns = time.monotonic_ns()
    look_ns = sense_ns + _LOOK_NS
    try:
        while True:
            wait_s = max(0, min(sense_ns, look_ns) - time.monotonic_ns()) / 1e9
            if select.select([source], (), (), wait_s)[0]:
                data = os.read(source, 3 * 4096)
                if not data:
                    return ""
                data = rest + data
                whole = len(data) // 3 * 3
                guard.send(data[:whole])
                rest = data[whole:]
                sense_ns = time.monotonic_ns() + _SENSE_NS
            now_ns = time.monotonic_ns()
            if now_ns >= sense_ns:
                guard.sense()
                sense_ns = now_ns + _SENSE_NS
            if now_ns >= look_ns:
                if guard.is_gone():
                    return f"{GONE} {guard.name}"
                look_ns = now_ns + _LOOK_NS
    finally:
        guard.release()


def _say(text: str) -> None:
    # The node that would read it may be dead.
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError:
        pass


def main(api: str, kind: str, name: str) -> int:
    """Guard a port until stdin ends; 0 then, 1 where it cannot be opened or goes away."""
    # Whatever ends the run ends the node, and that ends stdin.
    for number in (signal.SIGINT, signal.SIGTERM, *_hangup()):
        signal.signal(number, signal.SIG_IGN)
    try:
        guard = Guard(cast(Any, api), kind, name)
    except InnervateError as error:
        _say(f"{FAILED} {error}")
        return 1
    except OSError as error:  # RtMidi's errors are of this kind.
        _say(f"{FAILED} the MIDI port {name!r} cannot be opened ({error}).")
        return 1
    _say(f"{OPENED} {guard.name}")
    reason = ""
    try:
        reason = serve(guard, sys.stdin.fileno())
    except OSError as error:
        reason = f"{GONE} {guard.name} ({error})"
    if reason:
        _say(reason)
        return 1
    guard.close()
    return 0


def _hangup() -> tuple[signal.Signals, ...]:
    return (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()


if __name__ == "__main__":
    # To close a port of JACK can crash a process, as the end of Python would: see `midi_listener`.
    os._exit(main(*sys.argv[1:4]))
