"""The `serial` sink: messages to a box on a serial port when rules fire and levels change."""

from __future__ import annotations

import importlib.util
import logging
import time
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field

from stream.errors import ConfigError, MissingExtraError
from stream.loop.freshness import Freshness, OutputSettings
from stream.loop.serial_link import SerialLink
from stream.loop.trigger import LEVELS, TRIGGER, disarms
from stream.node import Context, Node, StreamSpec
from stream.packet import Packet
from stream.units import Seconds, format_seconds, to_ns

_START_S = 5.0
"""How long a box may take until it answers for the first time: many restart when opened."""
_WAITING_NS = to_ns(0.001)
_LOOK_NS = to_ns(0.05)
_AGAIN_NS = to_ns(1.0)

_log = logging.getLogger(__name__)


def _message(text: str) -> str:
    try:
        if text.encode("latin-1"):
            return text
    except UnicodeEncodeError:
        pass
    raise ValueError(
        f'expected a text of one character a byte, such as "P" or "\\x01", found {text!r}'
    )


def _pair(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"expected two messages, for 0 and for 1, such as [l, h], found {value!r}")
    return value


Message = Annotated[str, AfterValidator(_message)]
"""A message to a box: each character stands for the byte of its code point."""


class SerialSettings(OutputSettings):
    """Settings of `serial`."""

    port: str = Field(description="serial port, such as /dev/serial/by-id/...; this name is stable")
    baud: int = Field(115200, gt=0, description="speed in bits a second")
    fire: dict[str, Message] = Field({}, description="message to send when a rule fires, by rule")
    levels: dict[str, Annotated[tuple[Message, Message], BeforeValidator(_pair)]] = Field(
        {}, description="messages for level 0 and level 1, by rule, such as {fast: [l, h]}"
    )
    safe: Message = Field(description="message that brings the box to its safe state")
    acknowledge: Message | None = Field(
        None, description="line with which the box answers each message; by default it does not"
    )
    timeout: Seconds = Field(0.1, gt=0, description="how long the box may take to answer")


class SerialSink(Node[SerialSettings]):
    """Drive a box with TTL outputs, such as an Arduino or a Teensy.

    Takes firings and levels of `trigger`. The box is sent `safe` at the start, when a trigger is
    disarmed, when a stream stalls, when it does not answer, when the port is back after it was
    unplugged, and at the end; also when this process is killed, by a process of its own. While one
    of these holds nothing else is sent, and the firings that come are counted by the reason. Levels
    are sent when they change.
    """

    use = "serial"
    summary = "sends messages to a TTL box on a serial port when rules fire"
    Settings = SerialSettings
    accepts: ClassVar[frozenset[str]] = frozenset({TRIGGER, LEVELS})
    max_inputs: ClassVar[int | None] = None

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check that each message is for a rule that is linked; a sink gives no stream.

        Raises
        ------
        ConfigError
            One is not, a stream leads to no message, or the port is not there.
        MissingExtraError
            pyserial is not installed.
        """
        if importlib.util.find_spec("serial") is None:
            raise MissingExtraError("The node 'serial'", "loop")
        s = self.settings
        for key, kind, messages in (("fire", TRIGGER, s.fire), ("levels", LEVELS, s.levels)):
            linked = {name: spec for name, spec in inputs.items() if spec.kind == kind}
            rules = [rule for spec in linked.values() for rule in spec.names]
            for rule in messages:
                if rules.count(rule) > 1:
                    raise ConfigError(
                        f"{key}: rule '{rule}' is in more than one of {', '.join(linked)}; rename"
                        " one, or give each a sink of its own."
                    )
                if rule not in rules:
                    there = ", ".join(rules) or f"none, since no stream of {kind} is"
                    raise ConfigError(f"{key}: rule '{rule}' is not linked; linked are {there}.")
            for name, spec in linked.items():
                if not messages.keys() & set(spec.names):
                    raise ConfigError(
                        f"{key}: is missing messages for the rules of '{name}', such as"
                        f" {spec.names[0]}."
                    )
        _check_port(s.port)
        return {}

    def open(self, context: Context) -> None:
        """Open the port, send the safe state and, if the box answers messages, wait for that.

        Raises
        ------
        ConfigError
            The port cannot be opened, or nothing answers on it.
        """
        super().open(context)
        s = self.settings
        self._fresh = Freshness(s, context)
        self._safe_message = s.safe.encode("latin-1")
        self._answer = None if s.acknowledge is None else s.acknowledge.encode("latin-1").strip()
        # Until when each message has to be answered, and when to ask a silent box again.
        self._waiting: deque[int] = deque()
        self._silent = False
        self._again_ns = 0
        self._counted: dict[str, int] = {}
        self._levels: dict[str, int] = {}
        self._look_ns = time.monotonic_ns()
        try:
            self._link = SerialLink(s.port, s.baud, self._safe_message)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"port: {s.port} cannot be opened ({error}); another program may have it, or you"
                " are not in the group that may use it (dialout on many systems)."
            ) from None
        self._await_box()

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Send the messages of the rules that fire, or of the levels that have changed."""
        if disarms(packet):
            # However late it is.
            self._to_safe()
        if not self._fresh.take(stream, packet):
            return ()
        spec = self.context.inputs[stream]
        held_back = self._held_back()
        if spec.kind == TRIGGER:
            for number in np.flatnonzero(packet.data):
                if (text := self.settings.fire.get(spec.names[number])) is None:
                    continue
                if held_back or not self._send(text.encode("latin-1")):
                    self.context.counters.drop(held_back or "port_away")
                else:
                    self._count("fired")
        elif not held_back:
            self._set_levels(dict(zip(spec.names, packet.data.tolist(), strict=True)))
        # What has to go out goes first.
        self._read()
        return ()

    def due_ns(self) -> int | None:
        """Return when to look after the port, or when a stream will have stalled."""
        stall_ns = self._fresh.due_ns()
        return self._look_ns if stall_ns is None else min(stall_ns, self._look_ns)

    def tick(self) -> Iterable[Packet]:
        """Read answers, look after the port, and go to the safe state when something is wrong."""
        now_ns = time.monotonic_ns()
        if self._fresh.stalls():
            self._to_safe()
        if self._link.come_back():
            self._waiting.clear()
            self._count("port_back")
            # A box that answers has to do so first: many restart when they are opened.
            self._silent = self._answer is not None
            self._to_safe()
        self._read()
        if self._waiting and self._waiting[0] <= now_ns:
            self._not_answered(now_ns)
        elif self._silent and not self._waiting and self._again_ns <= now_ns:
            self._to_safe()
        self._look_ns = now_ns + (_WAITING_NS if self._waiting else _LOOK_NS)
        return ()

    def finish(self) -> Iterable[Packet]:
        """Go to the safe state: nothing comes any more."""
        self._to_safe()
        return ()

    def close(self) -> None:
        """Go to the safe state, wait for the last answers, and leave the port."""
        if (link := getattr(self, "_link", None)) is None:
            return
        sent = self._to_safe()
        if sent and self._answer is not None:
            sent = self._answers_by(time.monotonic_ns() + to_ns(self.settings.timeout))
        self.context.counters.note("safe_at_end", bool(sent))
        link.close()
        self._note_link()
        del self._link

    # The box

    def _await_box(self) -> None:
        end_ns = time.monotonic_ns() + to_ns(_START_S)
        self._to_safe()
        while self._answer is not None:
            now_ns = time.monotonic_ns()
            # Not asked more often, since a boot loader may take each byte for a reason to stay.
            if self._answers_by(min(now_ns + _AGAIN_NS, end_ns)):
                return
            if now_ns >= end_ns:
                s = self.settings
                self.close()
                raise ConfigError(
                    f"port: what is on {s.port} did not answer {s.acknowledge!r} to {s.safe!r}"
                    f" within {format_seconds(_START_S)}; see that the box runs, and 'baud'."
                )
            self._waiting.clear()
            self._to_safe()

    def _answers_by(self, end_ns: int) -> bool:
        """Wait until every message has been answered; False when that takes too long."""
        while self._waiting and time.monotonic_ns() < end_ns:
            self.context.alive()
            time.sleep(0.001)
            self._read()
        return not self._waiting

    def _held_back(self) -> str:
        """Say why nothing but the safe state is sent now, if so."""
        if self._fresh.stalled:
            return "stalled"
        return "not_answering" if self._silent and self._link.is_open else ""

    def _to_safe(self) -> bool:
        self._levels.clear()
        return self._send(self._safe_message)

    def _set_levels(self, levels: dict[str, int]) -> None:
        for rule, messages in self.settings.levels.items():
            level = levels.get(rule)
            # In the safe state every level is 0.
            if level is not None and level != self._levels.get(rule, 0):
                if not self._send(messages[level].encode("latin-1")):
                    return
                self._levels[rule] = level
                self._count("levels_set")

    def _send(self, message: bytes) -> bool:
        sent = self._link.send(message)
        if sent and self._answer is not None:
            now_ns = time.monotonic_ns()
            self._waiting.append(now_ns + to_ns(self.settings.timeout))
            self._look_ns = min(self._look_ns, now_ns + _WAITING_NS)
        self._note_link()
        return sent

    def _read(self) -> None:
        for line in self._link.lines():
            if line == self._answer and self._waiting:
                self._waiting.popleft()
                if self._silent:
                    self._silent = False
                    self._count("answers_again")
            elif line:
                self._count("other_lines")
        self._note_link()

    def _not_answered(self, now_ns: int) -> None:
        self._waiting.clear()
        self._again_ns = now_ns + _AGAIN_NS
        self._count("unanswered")
        if not self._silent:
            self._silent = True
            self._to_safe()

    def _note_link(self) -> None:
        link = self._link
        if not link.is_open:
            self._waiting.clear()
        if link.outages != self._counted.get("port_away", 0):
            self._counted["port_away"] = link.outages - 1
            self._count("port_away")
            self.context.counters.note("trouble", link.trouble)
        if link.too_long:
            self.context.counters.note("bytes_without_line", link.too_long)

    def _count(self, what: str) -> None:
        self._counted[what] = self._counted.get(what, 0) + 1
        self.context.counters.note(what, self._counted[what])
        if self._counted[what] == 1 and what in _TOLD:
            _log.warning("%s: %s", self.context.name, _TOLD[what])


_TOLD = {
    "port_away": "the port went away; it is opened again when it is back, until then nothing fires",
    "port_back": "the port is back, and the box was sent its safe state",
    "unanswered": "the box did not answer in time: to the safe state until it does",
    "answers_again": "the box answers again",
    "other_lines": "the box sent a line that is no answer",
}
"""What is logged once; later ones are only counted."""


def _check_port(port: str) -> None:
    from serial.tools.list_ports import comports

    there = [found.device for found in comports()]
    if port not in there and not Path(port).exists():
        raise ConfigError(
            f"port: there is no serial port {port}; found {', '.join(there) or 'none'}."
        )
