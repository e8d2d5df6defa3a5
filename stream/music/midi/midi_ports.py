"""The MIDI inputs of this machine."""

from __future__ import annotations

import ctypes
import re
from typing import Any, NamedTuple

from stream.errors import ConfigError
from stream.music.midi.midi_system import CLIENT, load_rtmidi

# ALSA's own loop, and numbers that are others when a device is plugged in again.
_LOOP = "Midi Through"
_NUMBERS = re.compile(r" \d+:\d+$")


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
    ports = _inputs(load_rtmidi())
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

    Clock, active sensing and system exclusive messages are left out.
    """

    def __init__(self, port: InputPort, take: Any) -> None:
        """Open an input.

        Raises
        ------
        ConfigError
            It is not there any more, or another program has it.
        """
        self._rtmidi = rtmidi = load_rtmidi()
        self._api = port.api
        self._name = _NUMBERS.sub("", port.name)
        try:
            self._midi = rtmidi.MidiIn(rtapi=port.api, name=CLIENT)
            self._midi.set_callback(lambda event, _: take(event[0]))
            self._midi.open_port(_stable_names(self._midi).index(self._name), name="in")
        except (rtmidi.RtMidiError, ValueError) as error:
            raise ConfigError(f"the MIDI input '{port.name}' cannot be opened: {error}.") from None

    def is_there(self, *, thoroughly: bool) -> bool:
        """Tell whether the device is still there: a lost one sends nothing, which tells nothing.

        A client of JACK goes on seeing the ports of a server that has died. That is only noticed
        `thoroughly`, which takes some milliseconds in which messages have to wait for their time.
        """
        anew = thoroughly and self._api == self._rtmidi.API_UNIX_JACK
        names = self._names_anew() if anew else _stable_names(self._midi)
        return self._name in (names or ())

    def close(self) -> None:
        """Let go of it."""
        self._midi.cancel_callback()
        if self._names_anew() is None:
            # The client of a JACK server that has died cannot be closed without a crash.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._midi))
            return
        self._midi.close_port()
        self._midi.delete()

    def _names_anew(self) -> list[str] | None:
        """Return the inputs as a new client sees them; None when no MIDI system answers."""
        try:
            probe = self._rtmidi.MidiIn(rtapi=self._api, name=f"{CLIENT} look")
        except self._rtmidi.RtMidiError:
            return None
        names = _stable_names(probe)
        probe.delete()
        return names


def _stable_names(midi: Any) -> list[str]:
    return [_NUMBERS.sub("", name) for name in midi.get_ports()]


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
