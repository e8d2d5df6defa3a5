"""The `midi` node: notes go to a MIDI port, into a .mid file, or both."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from stream.captured import captured_output
from stream.errors import ConfigError
from stream.music.held import Held, Message
from stream.music.midi.midi_file import MidiFile
from stream.music.midi.midi_port import MidiPort
from stream.music.midi.midi_system import Api, check_virtual, find_port, midi_out
from stream.music.notes import NOTE_ON, PROGRAM, program
from stream.music.sound.instruments import Instrument
from stream.music.sound.samples import PERCUSSION_CHANNEL
from stream.music.targets import check_inputs, check_target, messages_of
from stream.music.timeline import Timeline
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import Seconds, to_ns

_LOOK_NS = to_ns(0.1)
_SAVE_NS = to_ns(1.0)


class MidiSettings(NodeSettings):
    """Settings of `midi`."""

    port: str | None = Field(None, description="MIDI port to play, by its name or part of it")
    virtual: str | None = Field(
        None, description="make a port of this name, which other programs connect to"
    )
    api: Api = Field("auto", description="MIDI system, where a machine has several")
    file: Path | None = Field(None, description=".mid file to write")
    instrument: Instrument | None = Field(
        None,
        description="General MIDI instrument to choose on each channel, 0 to 127 or its name;"
        " by default none is chosen",
    )
    silence: Seconds = Field(
        1.0, gt=0, description="release every note when no packet has come for so long"
    )


class Midi(Node[MidiSettings]):
    """Send notes to a MIDI port, write them into a file, or both.

    A port is played as packets come; a file has the times of the source. Nothing sounds for ever:
    when no packet, not even an empty one, has come for `silence`, every note is released, as at the
    end of the run, and a process of its own owns the port and does so when this one is killed. A
    port that goes away is noted in the report and opened again when it is back.
    """

    use = "midi"
    summary = "sends notes to a MIDI port or into a .mid file"
    Settings = MidiSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"notes"})
    max_inputs: ClassVar[int | None] = None

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check the streams, that the port is there and that the file can be written.

        Raises
        ------
        ConfigError
            One of them is not there or does not do.
        MissingExtraError
            RtMidi is not installed.
        """
        s = self.settings
        check_inputs(self.use, inputs)
        if s.port is not None and s.virtual is not None:
            raise ConfigError("'midi' takes 'port' or 'virtual', not both.")
        if s.port is None and s.virtual is None and s.file is None:
            raise ConfigError("'midi' needs a 'port', a 'virtual' port or a 'file'.")
        if s.file is not None:
            check_target(s.file, (".mid", ".midi"))
        if s.port is not None:
            find_port(s.port, list_ports(s.api))
        if s.virtual is not None:
            check_virtual(s.api)
            list_ports(s.api)
        return {}

    def writes(self) -> tuple[Path, ...]:
        """Return the file, if there is one."""
        return () if self.settings.file is None else (self.settings.file,)

    def open(self, context: Context) -> None:
        """Begin the file and open the port.

        Raises
        ------
        ConfigError
            The port is not there any more.
        RecordingError
            The file cannot be written.
        """
        super().open(context)
        s = self.settings
        self._port: MidiPort | None = None
        self._file: MidiFile | None = None
        self._timeline = Timeline(context.inputs)
        self._held = Held()
        self._silences = 0
        self._chosen: set[int] = {PERCUSSION_CHANNEL}
        self._packet_ns = self._due_ns = time.monotonic_ns()
        self._save_ns = self._due_ns
        if s.file is not None:
            self._file = MidiFile(s.file, s.silence)
            context.counters.note("file", str(s.file))
        if (name := s.port or s.virtual) is not None:
            kind = "port" if s.port is not None else "virtual"
            self._port = MidiPort(s.api, kind, name)
            self._port.wait_open(context.alive)
            context.counters.note("port", self._port.name)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Send and write the messages of a packet."""
        messages = messages_of(packet, self.context.counters)
        if messages is None:
            return ()
        messages = self._with_programs(messages)
        self._packet_ns = time.monotonic_ns()
        if self._port is not None and messages:
            for message in messages:
                self._held.take(message)
            self._port.send(messages)
        if self._file is not None:
            for source_ns, ready in self._timeline.add(stream, packet.source_ns, messages):
                self._file.play(source_ns, ready)
        return ()

    def due_ns(self) -> int | None:
        """Look after port and file ten times a second."""
        return self._due_ns

    def tick(self) -> Iterable[Packet]:
        """Release what has been held too long without a packet, and see how the port does."""
        now_ns = self._due_ns = time.monotonic_ns()
        self._due_ns += _LOOK_NS
        if self._port is not None:
            if self._held and now_ns - self._packet_ns > to_ns(self.settings.silence):
                self._silences += 1
                self._port.send(self._held.release())
            self._port.look()
            self._note_port()
        if self._file is not None and now_ns > self._save_ns:
            self._save_ns = now_ns + _SAVE_NS
            self._file.save()
        return ()

    def finish(self) -> Iterable[Packet]:
        """Write what still waits for its time."""
        if self._file is not None:
            for source_ns, ready in self._timeline.rest():
                self._file.play(source_ns, ready)
        return ()

    def close(self) -> None:
        """Release every note, leave the port and finish the file.

        Raises
        ------
        RecordingError
            The file could not be finished.
        """
        if (port := getattr(self, "_port", None)) is not None:
            port.close()
            self._note_port()
            self._port = None
        if (file := getattr(self, "_file", None)) is not None:
            self._file = None
            file.close()
            self._note_file(file)

    def _with_programs(self, messages: list[Message]) -> list[Message]:
        """Choose the instrument of a channel before its first note, unless the notes do."""
        if self.settings.instrument is None:
            return messages
        found: list[Message] = []
        for message in messages:
            channel, kind = message[0] & 0x0F, message[0] & 0xF0
            if kind == PROGRAM:
                self._chosen.add(channel)
            elif kind == NOTE_ON and channel not in self._chosen:
                self._chosen.add(channel)
                found.append(program(self.settings.instrument, channel))
            found.append(message)
        return found

    def _note_port(self) -> None:
        port = self._port
        assert port is not None
        counters = self.context.counters
        counters.note("silences", self._silences)
        counters.note_rare(outages=port.outages, not_sent=port.not_sent, trouble=port.trouble)

    def _note_file(self, file: MidiFile) -> None:
        counters = self.context.counters
        counters.note("file_notes", file.notes)
        counters.note("file_starts_s", file.starts_s)
        counters.note_rare(
            file_silences=file.silences,
            clock_jumps=self._timeline.clock_jumps,
            out_of_order=self._timeline.out_of_order,
        )


def list_ports(api: Api) -> list[str]:
    """Return the names of the ports that can be sent to.

    Raises
    ------
    ConfigError
        No MIDI system answers.
    MissingExtraError
        RtMidi is not installed.
    """
    with captured_output():
        out = midi_out(api)
        names: list[str] = out.get_ports()
        out.delete()
    return names
