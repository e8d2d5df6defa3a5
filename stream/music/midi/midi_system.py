"""The MIDI ports of this machine, as RtMidi knows them."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any, Literal

from stream.errors import ConfigError, MissingExtraError

Api = Literal["auto", "alsa", "jack", "core", "windows"]
_APIS = {
    "auto": "API_UNSPECIFIED", "alsa": "API_LINUX_ALSA", "jack": "API_UNIX_JACK",
    "core": "API_MACOSX_CORE", "windows": "API_WINDOWS_MM",
}  # fmt: skip
CLIENT = "innervate"
# Others when a device is plugged in again.
_NUMBERS = re.compile(r" \d+:\d+$")
_NO_WHEELS = (3, 13)
_HELP = (
    "On Linux load the sequencer of ALSA (modprobe snd-seq), or start JACK and write 'api: jack'."
    " A 'file' alone needs no MIDI system."
)


def load_rtmidi() -> Any:
    """Return the module `rtmidi`.

    Raises
    ------
    MissingExtraError
        It is not installed.
    ConfigError
        It is not, and the extra does not bring it for this Python.
    """
    try:
        return importlib.import_module("rtmidi")
    except ImportError as error:
        if sys.version_info >= _NO_WHEELS:
            raise ConfigError(
                "MIDI ports need python-rtmidi, which has no ready wheel for this Python: use 3.12,"
                " or, with a compiler, pip install python-rtmidi. A 'file' alone needs neither."
            ) from None
        raise MissingExtraError("A MIDI port", "audio") from error


def midi_out(api: Api) -> Any:
    """Return a client that can open one port to send to, not opened yet.

    Raises
    ------
    MissingExtraError
        RtMidi is not installed.
    ConfigError
        There is no such MIDI system here, it does not run, or RtMidi is not there for this Python.
    """
    rtmidi = load_rtmidi()
    number = getattr(rtmidi, _APIS[api])
    if api != "auto" and number not in rtmidi.get_compiled_api():
        raise ConfigError(f"api: RtMidi knows no '{api}' on this system; write 'api: auto'.")
    try:
        return rtmidi.MidiOut(rtapi=number, name=CLIENT)
    except rtmidi.RtMidiError as error:
        raise ConfigError(f"no MIDI system answers here ({error}). {_HELP}") from None


def without_numbers(name: str) -> str:
    """Return the name of a port without the numbers that ALSA adds to it."""
    return _NUMBERS.sub("", name)


def stable_names(midi: Any) -> list[str]:
    """Return the ports that a client sees, by `without_numbers`."""
    return [without_numbers(name) for name in midi.get_ports()]


def find_port(wanted: str, names: list[str]) -> int:
    """Return the number of the port with that name, or with that part of its name.

    Raises
    ------
    ConfigError
        There is none, or several. It lists those there are.
    """
    if wanted in names:
        return names.index(wanted)
    found = [at for at, name in enumerate(names) if wanted.casefold() in name.casefold()]
    if len(found) == 1:
        return found[0]
    there = ", ".join(map(repr, names)) or "none at all"
    what = "several MIDI ports have" if found else "no MIDI port has"
    raise ConfigError(f"port: {what} {wanted!r} in their name; there are {there}.")


def check_virtual(api: Api) -> None:
    """Refuse a virtual port where there are none.

    Raises
    ------
    ConfigError
        Windows has none.
    """
    if sys.platform == "win32" and api != "jack":
        raise ConfigError(
            "virtual: Windows has no virtual MIDI ports; make one with a program such as loopMIDI"
            " and name it as 'port'."
        )
