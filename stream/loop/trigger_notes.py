"""`trigger.notes`: a rule that fires plays a note, on whatever plays notes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from stream.errors import ConfigError
from stream.loop.freshness import Freshness, OutputSettings
from stream.loop.trigger import TRIGGER, disarms
from stream.music.notes import events, note_off, note_on, notes_spec
from stream.node import Context, Node, StreamSpec
from stream.packet import Packet
from stream.units import Seconds, to_ns

VELOCITY = 100


class TriggerNotesSettings(OutputSettings):
    """Settings of `trigger.notes`."""

    notes: dict[str, Annotated[int, Field(ge=0, le=127)]] = Field(
        description="MIDI pitch by rule, such as {fast: 60}; 60 is the middle C"
    )
    length: Seconds = Field(0.2, gt=0, description="how long a note lasts")


class TriggerNotes(Node[TriggerNotesSettings]):
    """Turn firings into packets of notes, for `midi`, `synth` and `osc`.

    Gives a packet for each that comes, mostly without a note, and one when a note ends. A rule that
    fires while its note sounds plays it anew. Disarming the trigger ends every note. Of data older
    than `max_age` nothing is played.
    """

    use = "trigger.notes"
    summary = "plays a note when a rule fires"
    Settings = TriggerNotesSettings
    accepts: ClassVar[frozenset[str]] = frozenset({TRIGGER})

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of notes.

        Raises
        ------
        ConfigError
            A note is for a rule that is not linked.
        """
        ((stream, spec),) = inputs.items()
        for rule in self.settings.notes:
            if rule not in spec.names:
                raise ConfigError(
                    f"notes: '{stream}' has no rule '{rule}'; it has {', '.join(spec.names)}."
                )
        return {"": notes_spec(spec.period_s)}

    def open(self, context: Context) -> None:
        """Begin in silence."""
        super().open(context)
        ((_, spec),) = context.inputs.items()
        self._rules = spec.names
        self._fresh = Freshness(self.settings, context)
        # When each note that sounds ends, by pitch, the first to end first.
        self._ends: dict[int, int] = {}
        self._last: Packet | None = None

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Play the notes of the rules that fire."""
        messages = []
        if disarms(packet):
            messages = [note_off(pitch) for pitch in self._ends]
            self._ends.clear()
        if self._fresh.take(stream, packet):
            end_ns = time.monotonic_ns() + to_ns(self.settings.length)
            for number in np.flatnonzero(packet.data):
                if (pitch := self.settings.notes.get(self._rules[number])) is not None:
                    if self._ends.pop(pitch, None) is not None:
                        messages.append(note_off(pitch))
                    self._ends[pitch] = end_ns
                    messages.append(note_on(pitch, VELOCITY))
        self._last = packet
        return [packet.derive("notes", events(messages))]

    def due_ns(self) -> int | None:
        """Return when the next note ends, or the firings will have stalled."""
        due = [*list(self._ends.values())[:1], self._fresh.due_ns()]
        return min((ns for ns in due if ns is not None), default=None)

    def tick(self) -> Iterable[Packet]:
        """End the notes whose time is over."""
        self._fresh.stalls()
        now_ns = time.monotonic_ns()
        return self._end([pitch for pitch, end_ns in self._ends.items() if end_ns <= now_ns])

    def finish(self) -> Iterable[Packet]:
        """End every note."""
        return self._end(list(self._ends))

    def _end(self, pitches: list[int]) -> list[Packet]:
        last = self._last
        if not pitches or last is None:
            return []
        for pitch in pitches:
            del self._ends[pitch]
        now_ns = time.monotonic_ns()
        at_ns = last.source_end_ns + now_ns - last.t_ns
        data = events([note_off(pitch) for pitch in pitches])
        return [Packet("notes", data, now_ns, at_ns, at_ns, last.segment)]
