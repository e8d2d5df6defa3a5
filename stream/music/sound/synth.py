"""The `synth` node: notes become sound, on a sound card and in a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from stream.music.held import Message
from stream.music.notes import NOTE_ON, PROGRAM
from stream.music.sound.audio import Speaker, Wanted, check_card
from stream.music.sound.instruments import Instrument, default_soundfont
from stream.music.sound.player import Player
from stream.music.sound.samples import CHUNK, Samples
from stream.music.sound.soundfont import SoundFont
from stream.music.sound.sounds import VOICES, Synth
from stream.music.sound.wav_file import WavFile
from stream.music.targets import check_inputs, check_target, messages_of
from stream.music.timeline import Timeline
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import Seconds, to_ns

_DEFAULT = "default"
_LOOK_NS = to_ns(0.25)
_TAIL_S = 2.0
# The thread that makes sound must not wait 5 ms, Python's own choice, until another one pauses.
_SWITCH_S = 0.0005


class SynthSettings(NodeSettings):
    """Settings of `synth`."""

    device: int | str | None = Field(
        None,
        description="sound card: number, part of its name, or 'default'; by default that of the"
        " system, or none where there is a 'file'",
    )
    file: Path | None = Field(None, description=".wav file to write")
    soundfont: Path | None = Field(
        None, description=".sf2 file with the instruments; by default TimGM6mb of pretty_midi"
    )
    instrument: Instrument = Field(
        0, description="General MIDI instrument until the notes choose one: 0 to 127, or its name"
    )
    gain: float = Field(0.6, gt=0, le=10, description="loudness, linear")
    delay: Seconds | None = Field(
        None, gt=0, le=10,
        description="sound this long after acquisition, rather than at once: later, but steady",
    )  # fmt: skip
    silence: Seconds = Field(
        1.0, gt=0, description="release every note when no packet has come for so long"
    )
    block: int = Field(128, ge=16, le=8192, description="frames that the sound card asks for")
    latency: Seconds = Field(
        0.01, ge=0, le=1, description="what the sound card keeps in store against interruptions"
    )


class SynthNode(Node[SynthSettings]):
    """Play notes with the samples of a SoundFont, on a sound card, into a .wav file, or both.

    The sound card is played in the callback of PortAudio, which waits for nothing; notes come to it
    in the next block, or `delay` after the acquisition of the frame that they were seen in. The
    file is in step with the source instead, however fast that runs, and needs no sound card.

    Nothing sounds for ever: when no packet, not even an empty one, has come for `silence`, every
    note is released, as at the end of the run. A sound card that goes away is noted in the report
    and tried again for as long as the run lasts.
    """

    use = "synth"
    summary = "plays notes on a sound card or into a .wav file"
    Settings = SynthSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"notes"})
    max_inputs: ClassVar[int | None] = None

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check the streams, the SoundFont, the sound card and that the file can be written.

        Raises
        ------
        ConfigError
            One of them is not there or does not do.
        MissingExtraError
            A package is not installed.
        """
        s = self.settings
        check_inputs(self.use, inputs)
        samples = Samples(SoundFont(self._soundfont()))
        samples.check(s.instrument)
        if s.file is not None:
            check_target(s.file, (".wav",))
        if self._wanted is not None:
            check_card(self._wanted)
        return {}

    def writes(self) -> tuple[Path, ...]:
        """Return the file, if there is one."""
        return () if self.settings.file is None else (self.settings.file,)

    def open(self, context: Context) -> None:
        """Prepare the instrument, begin the file, open the sound card.

        Raises
        ------
        ConfigError
            The SoundFont is damaged or too large.
        RecordingError
            The file cannot be written.
        """
        super().open(context)
        s = self.settings
        self._samples = Samples(SoundFont(self._soundfont()))
        self._programs: dict[int, int] = {}
        self._samples.prepare(0, s.instrument, context.alive)
        _warm_up(self._samples)
        self._timeline = Timeline(context.inputs)
        self._file: WavFile | None = None
        self._player: Player | None = None
        self._speaker: Speaker | None = None
        self._not_played = 0
        if s.file is not None:
            self._file = WavFile(s.file, self._synth(), s.silence)
            context.counters.note("file", str(s.file))
        if self._wanted is not None:
            sys.setswitchinterval(_SWITCH_S)
            self._player = Player(self._synth(), delay_s=s.delay, silence_s=s.silence)
            self._speaker = Speaker(self._wanted, self._player)
            self._speaker.wait_open(context.alive)
        self._due_ns = time.monotonic_ns()
        self._note()

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Play the notes of a packet."""
        messages = messages_of(packet, self.context.counters)
        if messages is None:
            return ()
        if self._speaker is not None:
            self._speaker.in_run = True
        if self._player is not None:
            # The sound card first: what it plays is late by all that is done before.
            for message in messages:
                self._prepare(message)
            if self._speaker is not None and self._speaker.trouble:
                self._not_played += len(messages)
            else:
                self._player.give(packet.t_ns, messages)
        if self._file is not None:
            for source_ns, ready in self._timeline.add(stream, packet.source_ns, messages):
                self._write(source_ns, ready)
        return ()

    def due_ns(self) -> int | None:
        """Look after the sound card four times a second."""
        return self._due_ns

    def tick(self) -> Iterable[Packet]:
        """Note how the sound card does."""
        self._due_ns = time.monotonic_ns() + _LOOK_NS
        if self._player is not None and self._player.error is not None:
            raise self._player.error
        self._note_samples()
        self._note()
        return ()

    def finish(self) -> Iterable[Packet]:
        """Write what still waits for its time."""
        if self._file is not None:
            for source_ns, ready in self._timeline.rest():
                self._write(source_ns, ready)
        return ()

    def close(self) -> None:
        """Release every note, let it fade, finish the file and leave the sound card.

        Raises
        ------
        RecordingError
            The file could not be finished.
        """
        if hasattr(self, "_samples"):
            self._note_samples()
        if (player := getattr(self, "_player", None)) is not None:
            if self._speaker is not None:
                self._speaker.in_run = False
                if not self._speaker.trouble:
                    _wait(lambda: not player.waits, self.settings.delay or 0.1)
                    if held := player.synth.held:
                        self.context.counters.note("released_at_end", held)
                    player.end()
                    _wait(lambda: not player.synth.sounding, _TAIL_S)
                self._speaker.close()
            self._note()
            self._player = None
        if (file := getattr(self, "_file", None)) is not None:
            self._file = None
            file.close()
            self._note_file(file)

    @property
    def _wanted(self) -> Wanted | None:
        s = self.settings
        if s.device is None and s.file is not None:
            return None
        return Wanted(None if s.device in (None, _DEFAULT) else s.device, s.block, s.latency)

    def _soundfont(self) -> Path:
        return self.settings.soundfont or default_soundfont()

    def _synth(self) -> Synth:
        return Synth(self._samples, self.settings.gain, self.settings.instrument)

    def _write(self, source_ns: int, messages: list[Message]) -> None:
        assert self._file is not None
        for message in messages:
            self._prepare(message)
        self._file.play(source_ns, messages)

    def _prepare(self, message: Message) -> None:
        """Have the samples ready of an instrument that a message chooses or first plays."""
        status, number, value = message
        channel, kind = status & 0x0F, status & 0xF0
        if kind == PROGRAM:
            self._programs[channel] = number
        elif not (kind == NOTE_ON and value):
            return
        program = self._programs.get(channel, self.settings.instrument)
        if self._samples.ready(channel, program) is None:
            self._samples.prepare(channel, program, self.context.alive)

    def _note_samples(self) -> None:
        missing = (f"{bank}:{number}" for bank, number in sorted(self._samples.missing))
        self.context.counters.note_rare(
            presets_missing=", ".join(missing), presets_unfiltered=self._samples.unfiltered
        )

    def _note(self) -> None:
        player, speaker = self._player, self._speaker
        if player is None or speaker is None:
            return
        note = self.context.counters.note
        note("underruns", speaker.underruns)
        note("silences", player.silences)
        note("sound_card_latency_ms", round(speaker.latency_s * 1e3, 2))
        self.context.counters.note_rare(
            underruns_at_ends=speaker.underruns_at_ends,
            outages=speaker.outages,
            away_s=round(speaker.away_s, 3),
            not_played=self._not_played,
            late_notes=player.late,
            clipped_blocks=player.clipped,
            voices_stolen=player.synth.stolen,
            notes_unprepared=player.synth.unprepared,
            trouble=speaker.trouble,
        )

    def _note_file(self, file: WavFile) -> None:
        self.context.counters.note("file_starts_s", file.starts_s)
        self.context.counters.note_rare(
            file_silences=file.silences,
            file_clipped_frames=file.clipped,
            file_cut_s=round(file.cut_s, 3),
            file_lost_s=round(file.lost_s, 3),
            clock_jumps=self._timeline.clock_jumps,
            out_of_order=self._timeline.out_of_order,
        )


def _warm_up(samples: Samples) -> None:
    """Meet every first-time cost before there is anything to be late for."""
    synth = Synth(samples, 1.0)
    out = np.zeros((CHUNK, 2), np.float32)
    for number in range(VOICES):
        synth.apply(NOTE_ON, number, 1)
        synth.render(out)


def _wait(holds: Any, at_most_s: float) -> None:
    end = time.monotonic() + at_most_s
    while not holds() and time.monotonic() < end:
        # The callback of a sound card must not wake anybody, so it has to be looked at.
        time.sleep(0.005)
