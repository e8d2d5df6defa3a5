"""`midi.in`: what somebody plays on a MIDI keyboard."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping

from pydantic import Field

from stream.errors import ConfigError
from stream.music.held import Held, Message
from stream.music.midi.midi_ports import InputPort, OpenInput, find_input
from stream.music.notes import events, notes_spec
from stream.node import Context, NodeSettings, Source, StreamSpec
from stream.packet import Packet

_PATIENCE_S = 0.002
_SILENCE_NS = 20_000_000
_AGAIN_NS = 1_000_000_000

_log = logging.getLogger(__name__)


class MidiInSettings(NodeSettings):
    """Settings of `midi.in`."""

    port: str | None = Field(
        None, description="MIDI input, by a part of its name; by default the only one that there is"
    )


class MidiIn(Source[MidiInSettings]):
    """Send the channel messages that come in by MIDI.

    Each leaves in a packet of its own with the time at which it came: on the host clock as `t_ns`,
    and since the start of the run as `source_ns`. After 20 ms without any, an empty packet says
    that none was missed. An input that goes away is opened again when it is back; in between its
    keys and pedals are let go, and a segment begins.
    """

    use = "midi.in"
    summary = "notes that somebody plays on a MIDI keyboard"
    Settings = MidiInSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Look for the input.

        Raises
        ------
        ConfigError
            It is not there, or more than one could be meant.
        MissingExtraError
            python-rtmidi is not installed.
        """
        find_input(self.settings.port)
        return {"": notes_spec(None)}

    def open(self, context: Context) -> None:
        """Open the input.

        Raises
        ------
        ConfigError
            It is not there any more, or another program has it.
        """
        super().open(context)
        self._start_ns: int | None = None
        self._lock = threading.Condition()
        self._waiting: list[tuple[int, list[int]]] = []
        self._held = Held()
        self._segment = 0
        self._last_ns = self._tried_ns = 0
        self._away = False
        self._port: InputPort = find_input(self.settings.port)
        self._input: OpenInput | None = OpenInput(self._port, self._take)
        self._input.wait_open(context.alive)
        context.counters.note("port", self._port.name)

    def start(self, start_ns: int) -> None:
        """Count time from the common start; what came before is not part of the run."""
        self._start_ns = self._last_ns = start_ns

    def due_ns(self) -> int | None:
        """Return now: what somebody plays is not known beforehand."""
        return None if self._start_ns is None else max(self._start_ns, time.monotonic_ns())

    def tick(self) -> Iterable[Packet]:
        """Send what has come, or wait a moment for it."""
        with self._lock:
            if not self._waiting:
                self._lock.wait(_PATIENCE_S)
            # Whatever comes once the lock is free again comes later than that.
            now_ns = time.monotonic_ns()
            waiting, self._waiting = self._waiting, []
        self._notice_return(now_ns)
        packets = self._packets(waiting)
        packets += self._notice_loss()
        if not packets and now_ns - self._last_ns >= _SILENCE_NS:
            packets.append(self._make(now_ns, []))
        if packets:
            self._last_ns = packets[-1].t_ns
        return packets

    def close(self) -> None:
        """Let go of the input."""
        midi: OpenInput | None = getattr(self, "_input", None)
        if midi is not None:
            midi.close()

    def _take(self, data: list[int]) -> None:
        """Take a message from the thread of the input."""
        with self._lock:
            self._waiting.append((time.monotonic_ns(), data))
            self._lock.notify()

    def _packets(self, waiting: list[tuple[int, list[int]]]) -> list[Packet]:
        made = (self._packet(t_ns, data) for t_ns, data in waiting)
        return [packet for packet in made if packet is not None]

    def _packet(self, t_ns: int, data: list[int]) -> Packet | None:
        assert self._start_ns is not None
        if t_ns < self._start_ns:
            return None
        if not (0x80 <= data[0] < 0xF0 and len(data) in (2, 3)):
            self.context.counters.drop("no_channel_message")
            return None
        message = (data[0], data[1], data[2] if len(data) == 3 else 0)
        self._held.take(message)
        return self._make(t_ns, [message])

    def _notice_return(self, now_ns: int) -> None:
        if self._input is None and now_ns - self._tried_ns >= _AGAIN_NS:
            self._tried_ns = now_ns
            try:
                self._port = find_input(self.settings.port or self._port.name)
            except ConfigError as error:
                _log.info("%s", error)
                return
            self._input = OpenInput(self._port, self._take)
        if self._away and self._input is not None and self._input.is_open:
            _log.warning("the MIDI input '%s' is back", self._port.name)
            self._away = False
            self._segment += 1

    def _notice_loss(self) -> list[Packet]:
        """Return what came last, and let go of what was held."""
        if self._input is None or not self._input.has_gone:
            return []
        self._input.close()
        self._input = None
        if self._away:  # It had only been tried.
            return []
        _log.warning("the MIDI input '%s' has gone", self._port.name)
        self._away = True
        self.context.counters.count("outages")
        with self._lock:
            last, self._waiting = self._waiting, []
        return [*self._packets(last), self._make(time.monotonic_ns(), self._held.release())]

    def _make(self, t_ns: int, messages: list[Message]) -> Packet:
        assert self._start_ns is not None
        source_ns = t_ns - self._start_ns
        return Packet("notes", events(messages), t_ns, source_ns, source_ns, segment=self._segment)
