"""Which keys and pedals are down, so that nothing sounds for ever."""

from __future__ import annotations

from stream.music.notes import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    CONTROL,
    NOTE_OFF,
    NOTE_ON,
    SUSTAIN,
    control,
    note_off,
)

Message = tuple[int, int, int]
"""One channel message: status with channel, and two data bytes."""

_TWO_BYTES = (0xC0, 0xD0)


def to_bytes(message: Message) -> bytes:
    """Return a message as it goes over a cable: programs and pressure have one data byte."""
    return bytes(message[: 2 if message[0] & 0xF0 in _TWO_BYTES else 3])


class Held:
    """The keys and sustain pedals that the messages so far have left down."""

    def __init__(self) -> None:
        self._keys: dict[tuple[int, int], None] = {}
        self._pedals: dict[int, None] = {}

    def __bool__(self) -> bool:
        return bool(self._keys or self._pedals)

    def take(self, message: Message) -> None:
        """Follow one message."""
        status, number, value = message
        channel, kind = status & 0x0F, status & 0xF0
        if kind == NOTE_ON and value:
            self._keys[channel, number] = None
        elif kind in (NOTE_ON, NOTE_OFF):
            self._keys.pop((channel, number), None)
        elif kind == CONTROL and number == SUSTAIN:
            if value >= 64:
                self._pedals[channel] = None
            else:
                self._pedals.pop(channel, None)
        elif kind == CONTROL and number in (ALL_SOUND_OFF, ALL_NOTES_OFF):
            self._keys = {key: None for key in self._keys if key[0] != channel}

    def release(self) -> list[Message]:
        """Return the messages that let go of everything, which then is up."""
        messages = [note_off(key, channel) for channel, key in self._keys]
        messages += [control(SUSTAIN, 0, channel) for channel in self._pedals]
        self._keys.clear()
        self._pedals.clear()
        return messages
