"""A source of notes at times that are not those of the sound card, and a sink that keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from stream.music.notes import (
    ALL_SOUND_OFF,
    NOTE_ON,
    control,
    events,
    note_off,
    note_on,
    notes_spec,
)
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.paced import PacedSettings, PacedSource, Timed
from stream.packet import Packet

RATE_HZ = 30
FRAMES = 8
"""Packets from one note to the next: pressed in the first, released in the third."""

TAIL = 3 * RATE_HZ
"""Packets without anything at the end, in which the last note fades."""

_JITTER_NS = 6_000_000


class NotesSettings(PacedSettings):
    """Settings of `Notes`."""

    notes: int = 100


class Notes(PacedSource[NotesSettings]):
    """Packets at 30 Hz, each up to 6 ms late; a note in every eighth, silence before each."""

    use = "benchmarks._notes:Notes"
    Settings = NotesSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        return {"": notes_spec(1 / RATE_HZ)}

    def open(self, context: Context) -> None:
        super().open(context)
        self.pace(self._play())

    def _play(self) -> Iterator[Timed]:
        random = np.random.default_rng(0)
        last = self.settings.notes - 1
        for number in range(self.settings.notes * FRAMES + TAIL):
            note, frame = divmod(number, FRAMES)
            pitch = 40 + note * 7 % 40
            messages = []
            if note <= last and frame == 0:
                messages.append(note_on(pitch, 100))
            elif note <= last and frame == 2:
                messages.append(note_off(pitch))
            elif note < last and frame == 5:
                messages.append(control(ALL_SOUND_OFF, 0))
            at_ns = number * 1_000_000_000 // RATE_HZ
            late_ns = int(random.integers(0, _JITTER_NS))
            yield at_ns + late_ns, Packet("notes", events(messages), 0, at_ns, at_ns)


class KeeperSettings(NodeSettings):
    """Settings of `Keeper`."""

    file: Path


class Keeper(Node[KeeperSettings]):
    """Write when notes were acquired into an .npy file."""

    use = "benchmarks._notes:Keeper"
    Settings = KeeperSettings
    accepts = frozenset({"notes"})

    def open(self, context: Context) -> None:
        super().open(context)
        self._times: list[int] = []

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        self._times += [packet.t_ns for status, _, _ in packet.data if status & 0xF0 == NOTE_ON]
        return ()

    def close(self) -> None:
        np.save(self.settings.file, np.array(self._times, np.int64))
