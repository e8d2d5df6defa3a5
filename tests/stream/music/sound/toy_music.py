"""Sources of notes for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from pydantic import Field

from stream.music.notes import events, note_off, note_on, notes_spec
from stream.node import Context, StreamSpec
from stream.paced import PacedSettings, PacedSource, Timed
from stream.packet import Packet


class ScaleSettings(PacedSettings):
    """Settings of `Scale`."""

    notes: int = 8
    frames: int = 10
    rate_hz: float = 50.0
    first_pitch: int = 60
    held: bool = False
    from_s: float = 0.0
    lasts: int | None = Field(None, description="packets after which it ends, else after all notes")


class Scale(PacedSource[ScaleSettings]):
    """One note after the other: a packet each 1 / `rate_hz`, a new note every `frames` of them.

    Note number n has the pitch first + n and velocity 40 + n, and after 40 of them from the start.
    With `held` it is never released.
    """

    use = "Scale"
    Settings = ScaleSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": notes_spec(1 / self.settings.rate_hz)}

    def open(self, context: Context) -> None:
        super().open(context)
        self.pace(self._play())

    def _play(self) -> Iterator[Timed]:
        s = self.settings
        step_ns = round(1e9 / s.rate_hz)
        last = (s.lasts or s.notes * s.frames) + 1
        for number in range(last):
            note, frame = divmod(number, s.frames)
            messages = []
            if frame == 0 and not s.held and 0 < note <= s.notes:
                messages.append(note_off(s.first_pitch + (note - 1) % 40))
            if frame == 0 and note < s.notes:
                messages.append(note_on(s.first_pitch + note % 40, 40 + note % 40))
            at_ns = number * step_ns
            source_ns = at_ns + round(s.from_s * 1e9)
            yield at_ns, Packet("notes", events(messages), 0, source_ns, source_ns)


class Counts(PacedSource[PacedSettings]):
    """What carries no notes."""

    use = "Counts"
    Settings = PacedSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": StreamSpec("counts", (2,), "uint8")}

    def open(self, context: Context) -> None:
        super().open(context)
        self.pace([(0, Packet("counts", np.zeros(2, np.uint8), 0, 0, 0))])
