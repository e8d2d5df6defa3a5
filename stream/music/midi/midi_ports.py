"""The MIDI inputs of this machine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from stream.captured import captured_output
from stream.errors import ConfigError
from stream.music.midi.midi_listener import FAILED, OPENED
from stream.music.midi.midi_system import CLIENT, load_rtmidi, without_numbers

# ALSA's own loop.
_LOOP = "Midi Through"
_OPEN_S = 20.0


class InputPort(NamedTuple):
    """A MIDI input: the number of the system's interface to it in python-rtmidi, and its name."""

    api: int
    name: str


def find_input(wanted: str | None) -> InputPort:
    """Return the one input whose name has `wanted` in it, or is it; the only one for None.

    Raises
    ------
    ConfigError
        There is none, or more than one.
    MissingExtraError
        python-rtmidi is not installed.
    """
    rtmidi = load_rtmidi()
    # Systems that are not there complain to the terminal.
    with captured_output():
        ports = _inputs(rtmidi)
    if wanted is None:
        fitting = [port for port in ports if _LOOP not in port.name]
    else:
        fitting = [port for port in ports if wanted.lower() in port.name.lower()]
        fitting = [port for port in fitting if port.name == wanted] or fitting
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(f"'{port.name}'" for port in ports) or "none"
    if not ports:
        raise ConfigError(
            "there is no MIDI input; plug the keyboard in and switch it on (on Linux, ALSA's"
            " sequencer or a running JACK server is needed)."
        )
    asked = "no name was given" if wanted is None else f"'{wanted}' was asked for"
    raise ConfigError(
        f"which MIDI input? {asked}, which fits {len(fitting) or 'none'} of those there are:"
        f" {there}."
    )


class OpenInput:
    """An input that is open, whose messages go to a function of (bytes as numbers).

    Another process owns it, see `midi_listener`. Clock, active sensing and system exclusive
    messages are left out.

    Attributes
    ----------
    is_open
        It has been opened; true when the first message comes.
    trouble
        Why it could not be opened; empty if it could.
    """

    def __init__(self, port: InputPort, take: Callable[[list[int]], None]) -> None:
        """Begin to open an input; `take` is called in a thread of its own."""
        self.is_open = False
        self.trouble = ""
        self._name = port.name
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "stream.music.midi.midi_listener",
                str(port.api), without_numbers(port.name),
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            # Ctrl-C is for the run.
            process_group=0,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._listen, args=[take], daemon=True)
        self._thread.start()

    def wait_open(self, alive: Callable[[], None]) -> None:
        """Wait until it is open, calling `alive` meanwhile.

        Raises
        ------
        ConfigError
            It is not there any more, or another program has it.
        """
        end = time.monotonic() + _OPEN_S
        while not self.is_open and not self.has_gone and time.monotonic() < end:
            alive()
            self._thread.join(0.01)
        if not self.is_open:
            why = self.trouble or f"nothing happened in {_OPEN_S:g} s"
            raise ConfigError(f"the MIDI input '{self._name}' cannot be opened: {why}.")

    @property
    def has_gone(self) -> bool:
        """Whether nothing will come any more, since the device or the MIDI system has gone."""
        return not self._thread.is_alive()

    def close(self) -> None:
        """Let go of it; what has come until now has been taken then."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _listen(self, take: Callable[[list[int]], None]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, _, rest = line.rstrip("\n").partition(" ")
            if what == FAILED:
                self.trouble = rest
                return
            # The first message may be faster than this line.
            self.is_open = True
            if what != OPENED:
                take(list(bytes.fromhex(what)))


def _inputs(rtmidi: Any) -> list[InputPort]:
    found = []
    for api in rtmidi.get_compiled_api():
        try:
            midi = rtmidi.MidiIn(rtapi=api, name=CLIENT)
        except rtmidi.RtMidiError:  # this machine has no such interface
            continue
        found += [InputPort(api, name) for name in midi.get_ports()]
        midi.delete()
    return found
