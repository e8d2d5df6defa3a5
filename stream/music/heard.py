"""From note packets to notes: when each was struck, released, and silent."""

from __future__ import annotations

from dataclasses import dataclass

from stream.music.notes import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    CONTROL,
    NOTE_OFF,
    NOTE_ON,
    SUSTAIN,
    Events,
)

_PEDAL_DOWN = 64


@dataclass
class Heard:
    """A note.

    Attributes
    ----------
    pitch, velocity
        As in MIDI.
    on_ns
        When its key went down.
    off_ns
        When it came up; None while it is down.
    end_ns
        When the note fell silent: later than `off_ns` where the pedal held it; None before that.
    """

    pitch: int
    velocity: int
    on_ns: int
    off_ns: int | None = None
    end_ns: int | None = None

    def is_down(self, time_ns: int) -> bool:
        """Tell whether its key is down at a time."""
        return self.on_ns <= time_ns and (self.off_ns is None or time_ns < self.off_ns)

    def is_heard(self, time_ns: int) -> bool:
        """Tell whether it sounds at a time, by its key or by the pedal."""
        return self.on_ns <= time_ns and (self.end_ns is None or time_ns < self.end_ns)


class Listener:
    """Follows channel messages. `notes` are those that they made, in the order of their onsets."""

    def __init__(self) -> None:
        self.notes: list[Heard] = []
        self._sounding: dict[tuple[int, int], Heard] = {}
        self._pedals: set[int] = set()

    def add(self, events: Events, time_ns: int) -> None:
        """Take the messages of a time, which is not before that of the last ones."""
        for status, number, value in events.tolist():
            kind, channel = status & 0xF0, status & 0x0F
            if kind == NOTE_ON and value:
                self._silence((channel, number), time_ns)
                note = Heard(number, value, time_ns)
                self.notes.append(note)
                self._sounding[channel, number] = note
            elif kind in (NOTE_ON, NOTE_OFF):
                self._release((channel, number), time_ns)
            elif kind == CONTROL:
                self._control(channel, number, value, time_ns)

    def end(self, time_ns: int) -> None:
        """Let everything fall silent, and the pedals come up."""
        self._pedals.clear()
        for key in list(self._sounding):
            self._silence(key, time_ns)

    def forget(self, before_ns: int) -> None:
        """Drop the notes that fell silent before a time."""
        self.notes = [n for n in self.notes if n.end_ns is None or n.end_ns >= before_ns]

    def _control(self, channel: int, number: int, value: int, time_ns: int) -> None:
        keys = [key for key in self._sounding if key[0] == channel]
        if number == SUSTAIN and value >= _PEDAL_DOWN:
            self._pedals.add(channel)
        elif number == SUSTAIN:
            self._pedals.discard(channel)
            for key in keys:
                if self._sounding[key].off_ns is not None:
                    self._silence(key, time_ns)
        elif number in (ALL_SOUND_OFF, ALL_NOTES_OFF):
            for key in keys:
                (self._silence if number == ALL_SOUND_OFF else self._release)(key, time_ns)

    def _release(self, key: tuple[int, int], time_ns: int) -> None:
        note = self._sounding.get(key)
        if note is None or note.off_ns is not None:
            return
        note.off_ns = time_ns
        if key[0] not in self._pedals:
            self._silence(key, time_ns)

    def _silence(self, key: tuple[int, int], time_ns: int) -> None:
        note = self._sounding.pop(key, None)
        if note is not None:
            note.off_ns = time_ns if note.off_ns is None else note.off_ns
            note.end_ns = time_ns
