"""Sound into a .wav file, in step with the times at the source."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.errors import RecordingError
from stream.music.held import Message
from stream.music.sound.samples import RATE_HZ
from stream.music.sound.sounds import Synth
from stream.units import to_ns

_BLOCK = 4096
_LEAD_NS = to_ns(60.0)
_LONGEST_FRAMES = 60 * RATE_HZ
_TAIL_FRAMES = 5 * RATE_HZ
_FRAME_BYTES = 4
# Sizes in a .wav file have 32 bits, and some programs read them as signed.
_MOST_FRAMES = (2**31 - 1024) // _FRAME_BYTES


class WavFile:
    """Stereo with 16 bits at 48 kHz, readable up to the last second also after a kill.

    It begins at 0 on the clock of the source, or at the first packet when that comes more than a
    minute later.

    Attributes
    ----------
    path
        The file.
    starts_s
        Where on the clock of the source it begins; None before the first packet.
    cut_s
        Time without packets that was left out: what is longer than a minute.
    lost_s
        What did not fit into the file, which can be 3 hours long.
    clipped
        Frames that were too loud.
    silences
        How often notes were released because no packet had come for too long.
    """

    def __init__(self, path: Path, synth: Synth, silence_s: float) -> None:
        """Begin the file.

        Raises
        ------
        RecordingError
            It cannot be written.
        """
        self.path = path
        self.starts_s: float | None = None
        self.cut_s = 0.0
        self.lost_s = 0.0
        self.clipped = 0
        self.silences = 0
        self._synth = synth
        self._silence_frames = round(silence_s * RATE_HZ)
        self._origin_ns = 0
        self._cut_frames = 0
        self._frames = 0
        self._unsaved = 0
        self._buffer = np.zeros((_BLOCK, 2), np.float32)
        try:
            self._raw = path.open("xb")
        except OSError as error:
            raise RecordingError(f"{path} cannot be written ({error}).") from None
        self._out = wave.open(self._raw, "wb")  # noqa: SIM115
        self._out.setnchannels(2)
        self._out.setsampwidth(2)
        self._out.setframerate(RATE_HZ)

    def play(self, source_ns: int, messages: list[Message]) -> None:
        """Write what sounds until a time at the source, and let messages happen then.

        Raises
        ------
        RecordingError
            The disk is full or fails.
        """
        if self.starts_s is None:
            self._origin_ns = 0 if 0 <= source_ns < _LEAD_NS else source_ns
            self.starts_s = self._origin_ns / 1e9
        end = round((source_ns - self._origin_ns) * RATE_HZ / 1e9) - self._cut_frames
        if end - self._frames > self._silence_frames:
            self._advance(self._silence_frames)
            if self._synth.held:
                self._synth.release_all()
                self.silences += 1
        excess = max(0, end - self._frames - _LONGEST_FRAMES)
        self._cut_frames += excess
        self.cut_s += excess / RATE_HZ
        self._advance(end - excess - self._frames)
        for message in messages:
            self._synth.apply(*message)

    def close(self) -> None:
        """Release every key, write what still sounds, 5 s at most, and finish the file.

        Raises
        ------
        RecordingError
            The disk is full or fails.
        """
        try:
            self._synth.release_all()
            rest = _TAIL_FRAMES
            while rest > 0 and self._synth.sounding:
                self._advance(_BLOCK)
                rest -= _BLOCK
            self._out.close()
            self._raw.close()
        except OSError as error:
            raise RecordingError(f"{self.path} could not be finished ({error}).") from None

    def _advance(self, frames: int) -> None:
        while frames > 0:
            part = self._buffer[: min(frames, _BLOCK)]
            self._synth.render(part)
            self._write(part)
            frames -= len(part)

    def _write(self, sound: NDArray[np.float32]) -> None:
        self._frames += len(sound)
        if self._frames > _MOST_FRAMES:
            self.lost_s += len(sound) / RATE_HZ
            return
        loudest = np.abs(sound).max(axis=1)
        self.clipped += int((loudest > 1).sum())
        whole = np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2")
        try:
            self._out.writeframesraw(whole.tobytes())
            self._unsaved += len(sound)
            if self._unsaved >= RATE_HZ:
                # The header then says how much there is.
                self._out.writeframes(b"")
                self._raw.flush()
                self._unsaved = 0
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be written any further ({error}).") from None
