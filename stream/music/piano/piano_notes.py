"""`piano.notes`: from probabilities of keys to packets of notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from stream.errors import ConfigError
from stream.music.keyboard import KEY_NAMES, KEYS, LOWEST_PITCH
from stream.music.notes import events, note_off, note_on, notes_spec
from stream.music.piano.note_tracking import Change, NoteTracker
from stream.music.piano.rectify import covered_keys
from stream.node import GAVE_NOTHING, TROUBLE, Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import to_ns

BEGIN, END = 0.6, 0.4
"""Thresholds where neither the pipeline nor the model file says another."""

# Networks are trained on few clips that are slower; a tenth is for times that are not exact.
_SLOW_NS = to_ns(1.1 / 15)


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
    Notes end when a segment ends, and in the last packet when the input ends. With the strips that
    the probabilities are of as a second input, no note begins on keys that are covered, and those
    that sound end.
    """

    use = "piano.notes"
    summary = "notes from probabilities of keys going down and being down"
    Settings = PianoNotesSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"keys", "strip"})
    max_inputs = 2

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of notes.

        Raises
        ------
        ConfigError
            There is not one stream of probabilities of the keys of a piano, or beside it something
            else than strips.
        """
        stream, spec = _of_keys(self.use, inputs)
        if spec.shape != (3, len(KEY_NAMES)) or spec.names != KEY_NAMES:
            raise ConfigError(
                f"'{self.use}' takes onset, frame and velocity of {len(KEY_NAMES)} keys, '{stream}'"
                f" carries {spec.kind} of shape {list(spec.shape)}."
            )
        return {"": notes_spec(spec.period_s)}

    def open(self, context: Context) -> None:
        """Begin with all keys up."""
        super().open(context)
        _, spec = _of_keys(self.use, context.inputs)
        begin = self.settings.begin or float(spec.meta.get("threshold", BEGIN))
        self._tracker = NoteTracker(begin, self.settings.end)
        self._segment: int | None = None
        self._last: Packet | None = None
        self._count = self._frames = self._slow = 0
        self._covered = np.zeros(KEYS, bool)
        context.counters.note("begin", begin)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Take the probabilities of a frame, or which keys are covered in it."""
        if packet.kind == "strip":
            self._covered = covered_keys(packet)
            return ()
        if not np.isfinite(packet.data).all():
            self.context.counters.drop("not_finite")
            return ()
        changes: list[Change] = []
        if packet.segment != self._segment:
            self._segment = packet.segment
            changes = self._tracker.reset()
        onset, frame, velocity = packet.data
        changes += self._tracker.push(packet.source_ns, onset, frame, velocity, self._covered)
        before, self._last = self._last, packet
        self._frames += 1
        if before is not None and before.segment == packet.segment:
            self._slow += packet.source_ns - before.source_ns > _SLOW_NS
        self.context.counters.note_rare(
            slow_frames=self._slow, implausible_frames=self._tracker.implausible,
            refused_on_covered=self._tracker.refused, let_go_covered=self._tracker.let_go,
        )  # fmt: skip
        return [self._notes(packet, changes)]

    def finish(self) -> Iterable[Packet]:
        """Release what is down; say that no note came, or that frames came too seldom, if so."""
        self.context.counters.note("notes", self._count)
        if self._last is not None and not self._count:
            self.context.counters.note(GAVE_NOTHING, "no key was seen to go down.")
        if 2 * self._slow > self._frames:
            self.context.counters.note(
                TROUBLE,
                "fewer than 15 frames came a second, for which the network was not trained: notes"
                " were missed, and wrong ones came. Let the camera see more light, or close other"
                " programs.",
            )
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


def _of_keys(use: str, inputs: Mapping[str, StreamSpec]) -> tuple[str, StreamSpec]:
    found = {name: spec for name, spec in inputs.items() if spec.kind != "strip"}
    if len(found) != 1:
        raise ConfigError(
            f"'{use}' takes probabilities of keys and, beside them, the strips that they are of,"
            f" such as from: [press, keys]; found {', '.join(inputs)}."
        )
    return next(iter(found.items()))
