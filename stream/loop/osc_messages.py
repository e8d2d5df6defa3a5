"""What a packet says as OSC messages: an address and its arguments, by kind of stream."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np

from stream.errors import ConfigError
from stream.loop.trigger import LEVELS, TRIGGER
from stream.loop.values import ACTION
from stream.music.held import Held
from stream.music.notes import CONTROL, NOTE_OFF, NOTE_ON, PROGRAM, are_events
from stream.node import StreamSpec
from stream.packet import Packet
from stream.vision.actions import UNKNOWN

Argument = str | int | float
Message = tuple[str, list[Argument]]
"""An address, and what is said there."""

NAME, STREAM = "{name}", "{stream}"
_NOT_IN_AN_ADDRESS = re.compile(r"[\s#*,?\[\]{}]|[^\x21-\x7e]")
_NOTE_KINDS = {NOTE_ON: "note", NOTE_OFF: "note", CONTROL: "control", PROGRAM: "program"}


class StreamMessages:
    """Makes the messages of one stream.

    `address` is a pattern: `{stream}` stands for the name of the stream, `{name}` for that of a
    channel, rule or label. Without `{name}` the values of all channels are the arguments of one
    message, and a rule or label is the first argument.
    """

    def __init__(self, address: str, stream: str, spec: StreamSpec) -> None:
        """Make it for a stream.

        Raises
        ------
        ConfigError
            The address is none, two channels would have the same one, or the stream carries what
            has no messages.
        """
        self._address = address.replace(STREAM, _clean(stream))
        self._named = NAME in address
        text = self._address.replace(NAME, "")
        if not text.startswith("/") or _NOT_IN_AN_ADDRESS.search(text):
            raise ConfigError(
                f"address: {address!r} is no OSC address; write one such as '/{STREAM}' or"
                f" '/{STREAM}/{NAME}'."
            )
        self._spec = spec
        self._held = Held()
        makers: dict[str, Callable[[Packet], list[Message]]] = {
            TRIGGER: self._fired, "notes": self._notes, LEVELS: self._vector, ACTION: self._label,
        }  # fmt: skip
        self._of = makers.get(spec.kind, self._vector)
        if self._of == self._vector and (len(spec.shape) != 1 or spec.shape[0] is None):
            raise ConfigError(
                f"'{stream}' carries {spec.kind} of shape {list(spec.shape)}; 'osc' sends labels,"
                " notes, triggers, and streams of one value a name."
            )
        self._names = spec.names or tuple(str(n) for n in range(spec.shape[-1] or 0))
        self.addresses = [self.at(name) for name in self._names] if self._named else [self.at("")]
        if len(set(self.addresses)) < len(self.addresses):
            twice = next(a for a in self.addresses if self.addresses.count(a) > 1)
            raise ConfigError(f"address: two channels of '{stream}' would be {twice}; rename one.")

    def at(self, name: str) -> str:
        """Return the address of a channel, rule or label."""
        return self._address.replace(NAME, _clean(name))

    def of(self, packet: Packet) -> list[Message] | None:
        """Return the messages of a packet; None where it holds what is not finite or no notes."""
        if self._spec.kind == "notes":
            if not are_events(packet.data):
                return None
        elif not np.isfinite(packet.data).all() and self._of == self._vector:
            return None
        return self._of(packet)

    def stalled(self, stalled: bool) -> list[Message]:
        """Return what says that the stream brings nothing now, or does so again."""
        address = self.at("stalled") if self._named else f"{self._address}/stalled"
        return [(address, [int(stalled)])]

    def safe(self) -> list[Message]:
        """Return what brings a receiver to the safe state: levels 0, no label, no note held."""
        if self._spec.kind == LEVELS:
            return self._values([0] * len(self._names))
        if self._spec.kind == ACTION:
            return [self._say(UNKNOWN, [0.0])]
        return [self._note(*message) for message in self._held.release()]

    def _say(self, name: str, arguments: list[Argument]) -> Message:
        """Say something of a channel: its name is in the address, or the first argument."""
        return self.at(name), arguments if self._named else [name, *arguments]

    def _fired(self, packet: Packet) -> list[Message]:
        age_ms = (time.monotonic_ns() - packet.t_ns) / 1e6
        return [self._say(self._names[n], [age_ms]) for n in np.flatnonzero(packet.data)]

    def _label(self, packet: Packet) -> list[Message]:
        label = str(packet.meta.get("label", UNKNOWN))
        return [self._say(label, [float(packet.meta.get("probability", 0.0))])]

    def _notes(self, packet: Packet) -> list[Message]:
        messages = []
        for status, number, value in packet.data.tolist():
            self._held.take((status, number, value))
            if status & 0xF0 in _NOTE_KINDS:
                messages.append(self._note(status, number, value))
        return messages

    def _note(self, status: int, number: int, value: int) -> Message:
        kind = status & 0xF0
        given = 0 if kind == NOTE_OFF else value
        return self._say(_NOTE_KINDS[kind], [number, given, status & 0x0F])

    def _vector(self, packet: Packet) -> list[Message]:
        return self._values(packet.data.tolist())

    def _values(self, values: list[Argument]) -> list[Message]:
        if not self._named:
            return [(self._address, values)]
        return [(at, [value]) for at, value in zip(self.addresses, values, strict=True)]


def _clean(name: str) -> str:
    return _NOT_IN_AN_ADDRESS.sub("_", name).replace("/", "_")
