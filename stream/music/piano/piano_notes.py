"""`piano.notes`: from probabilities of keys to packets of notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from stream.errors import ConfigError
from stream.music.keyboard import KEY_NAMES, LOWEST_PITCH
from stream.music.notes import events, note_off, note_on, notes_spec
from stream.music.piano.note_tracking import Change, NoteTracker
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet

BEGIN, END = 0.6, 0.4
"""Thresholds where neither the pipeline nor the model file says another."""


class PianoNotesSettings(NodeSettings):
    """Settings of `piano.notes`."""

    begin: float | None = Field(
        None, gt=0.0, le=1.0,
        description="probability of an onset from which a note begins: more for fewer wrong notes,"
        f" less for fewer missed ones; by default that of the model file, else {BEGIN:g}",
    )  # fmt: skip
    end: float = Field(
        END, gt=0.0, lt=1.0, description="probability of a key being down below which a note ends"
    )


class PianoNotes(Node[PianoNotesSettings]):
    """Turn probabilities of onset and frame of 88 keys into note-ons and note-offs.

    A packet of notes leaves for each packet that comes, with its times, often without any event.
    Notes end when a segment ends, and in the last packet when the input ends.
    """

    use = "piano.notes"
    summary = "notes from probabilities of keys going down and being down"
    Settings = PianoNotesSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"keys"})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of notes.

        Raises
        ------
        ConfigError
            The stream carries no probabilities of the keys of a piano.
        """
        ((stream, spec),) = inputs.items()
        if spec.shape != (3, len(KEY_NAMES)) or spec.names != KEY_NAMES:
            raise ConfigError(
                f"'{self.use}' takes onset, frame and velocity of {len(KEY_NAMES)} keys, '{stream}'"
                f" carries {spec.kind} of shape {list(spec.shape)}."
            )
        return {"": notes_spec(spec.period_s)}

    def open(self, context: Context) -> None:
        """Begin with all keys up."""
        super().open(context)
        ((_, spec),) = context.inputs.items()
        begin = self.settings.begin or float(spec.meta.get("threshold", BEGIN))
        self._tracker = NoteTracker(begin, self.settings.end)
        self._segment: int | None = None
        self._last: Packet | None = None
        self._count = 0
        context.counters.note("begin", begin)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Take the probabilities of a frame."""
        if not np.isfinite(packet.data).all():
            self.context.counters.drop("not_finite")
            return ()
        changes: list[Change] = []
        if packet.segment != self._segment:
            self._segment = packet.segment
            changes = self._tracker.reset()
        changes += self._tracker.push(packet.source_ns, *packet.data)
        self._last = packet
        return [self._notes(packet, changes)]

    def finish(self) -> Iterable[Packet]:
        """Release what is down."""
        self.context.counters.note("notes", self._count)
        if self._tracker.implausible:
            self.context.counters.note("implausible_frames", self._tracker.implausible)
        changes = self._tracker.reset()
        return [self._notes(self._last, changes)] if self._last is not None and changes else ()

    def _notes(self, packet: Packet, changes: list[Change]) -> Packet:
        messages = []
        for change in changes:
            pitch = LOWEST_PITCH + change.key
            if change.velocity is None:
                messages.append(note_off(pitch))
            else:
                self._count += 1
                messages.append(note_on(pitch, max(1, min(127, round(127 * change.velocity)))))
        return packet.derive("notes", events(messages))
