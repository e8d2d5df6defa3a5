"""Packets of notes: MIDI channel messages, for whatever plays, writes or draws them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.node import StreamSpec

NOTE_OFF, NOTE_ON, CONTROL, PROGRAM = 0x80, 0x90, 0xB0, 0xC0
SUSTAIN, ALL_SOUND_OFF, ALL_NOTES_OFF = 64, 120, 123
"""Numbers of controllers: the sustain pedal, silence at once, and release of every key."""

COLUMNS = ("status", "number", "value")

Events = NDArray[np.uint8]
"""MIDI channel messages (n, 3): status with channel, pitch or controller or program, value."""


def notes_spec(period_s: float | None) -> StreamSpec:
    """Return the specification of a stream of notes.

    Each packet carries `Events` of the channel messages that happen at its time, in their order;
    none at all is a packet too, and says that whoever sends is alive. A note-on of velocity 0 is
    a note-off.
    """
    return StreamSpec("notes", (None, len(COLUMNS)), "uint8", COLUMNS, "", period_s)


def note_on(pitch: int, velocity: int, channel: int = 0) -> tuple[int, int, int]:
    """Return the message that presses a key; velocity 1 to 127."""
    return NOTE_ON | channel, pitch, velocity


def note_off(pitch: int, channel: int = 0) -> tuple[int, int, int]:
    """Return the message that releases a key."""
    return NOTE_OFF | channel, pitch, 64


def control(number: int, value: int, channel: int = 0) -> tuple[int, int, int]:
    """Return the message that sets a controller, such as `SUSTAIN`, to a value of 0 to 127."""
    return CONTROL | channel, number, value


def program(number: int, channel: int = 0) -> tuple[int, int, int]:
    """Return the message that chooses an instrument of General MIDI, 0 to 127."""
    return PROGRAM | channel, number, 0


def events(messages: Sequence[tuple[int, int, int]]) -> Events:
    """Return messages as the array of a packet."""
    return np.array(messages, np.uint8).reshape(-1, len(COLUMNS))


def are_events(data: NDArray[Any]) -> bool:
    """Tell whether an array holds channel messages only, each with two data bytes below 128."""
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != len(COLUMNS):
        return False
    status = data[:, 0]
    return bool(((status >= 0x80) & (status < 0xF0)).all() and (data[:, 1:] < 128).all())


def check_notes(use: str, stream: str, spec: StreamSpec) -> None:
    """Refuse a stream that carries no notes.

    Raises
    ------
    ConfigError
        It carries something else.
    """
    wanted = notes_spec(None)
    if (spec.kind, spec.shape, spec.dtype) != (wanted.kind, wanted.shape, wanted.dtype):
        raise ConfigError(
            f"'{use}' takes notes, '{stream}' carries {spec.kind} of shape {list(spec.shape)}."
        )
