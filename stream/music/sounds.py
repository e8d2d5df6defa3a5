"""The SoundFont synthesiser: notes in, stereo sound out, all voices computed at once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from stream.music.notes import (
    ALL_NOTES_OFF,
    ALL_SOUND_OFF,
    CONTROL,
    NOTE_OFF,
    NOTE_ON,
    PROGRAM,
    SUSTAIN,
)
from stream.music.samples import (
    BEND_CENTS,
    CHUNK,
    LEVEL_CENTS,
    LEVELS,
    OVERSAMPLING,
    RATE_HZ,
    Playable,
    Samples,
    step,
)
from stream.music.soundfont import Envelope

VOICES = 128
CHANNELS = 16

_PITCH_BEND = 0xE0
_VOLUME, _PAN, _EXPRESSION, _RESET = 7, 10, 11, 121
_CONTROLLERS = {_VOLUME: 100, _PAN: 64, _EXPRESSION: 127, SUSTAIN: 0}
_INAUDIBLE = 2e-5
_QUICK_S = 0.005
_NEVER = 1e18
_SHORT_ATTACK_S = 0.003

# What is kept of each voice, a row each. Times are in frames since the voice began.
(
    _AT, _BETWEEN, _STEP, _BASE, _STRIDE, _LOOP_END, _LOOP_LENGTH, _END,
    _TIME, _DELAY, _ATTACK, _HOLD, _DECAY, _SUSTAIN, _PEAK, _RELEASED, _RELEASE,
    _F_DELAY, _F_ATTACK, _F_HOLD, _F_DECAY, _F_SUSTAIN, _F_PEAK, _F_RELEASE,
    _F_BASE, _F_DEPTH, _LEFT, _RIGHT, _AMPLITUDE,
    _LOUDNESS, _CHANNEL, _KEY, _HELD, _PEDAL, _EXCLUSIVE, _NUMBER,
) = range(36)  # fmt: skip
_ROWS = 36
_FALL = math.log(1e5)
"""How far the volume falls in the times that a font gives for it: 100 dB."""


class Synth:
    """Plays channel messages with the samples of a SoundFont.

    It knows pitch, velocity, loops, the envelopes of volume and filter, panorama, exclusive groups,
    the sustain pedal, volume, panorama and expression of a channel, pitch bend of two semitones,
    and programs. Oscillators, modulators, reverb and chorus of a font are left out.

    Of the `VOICES` that sound at most, the quietest makes room for a new one.

    Attributes
    ----------
    stolen
        Voices that had to make room.
    unprepared
        Notes that were not played, since their instrument was not prepared in `samples`.
    """

    def __init__(self, samples: Samples, gain: float, program: int = 0) -> None:
        self.samples = samples
        self.stolen = 0
        self.unprepared = 0
        self._gain = gain
        self._programs = [program] * CHANNELS
        self._controllers = [dict(_CONTROLLERS) for _ in range(CHANNELS)]
        self._bends = [0.0] * CHANNELS
        self._voices = np.zeros((_ROWS, VOICES))
        self._playables: list[Playable | None] = [None] * VOICES
        self._count = 0
        self._begun = 0
        # Everything below is written anew for each chunk; it is here so that none is allocated.
        self._ramp = np.arange(CHUNK, dtype=np.float32)
        self._position = np.empty(VOICES * CHUNK, np.float32)
        self._whole = np.empty(VOICES * CHUNK, np.float32)
        self._index = np.empty(2 * VOICES * CHUNK, np.intp)
        self._taken = np.empty(2 * VOICES * CHUNK, np.complex64)
        self._sound = np.empty(2 * VOICES * CHUNK, np.float32)
        self._gains = np.empty((4, 2 * VOICES), np.float32)

    @property
    def sounding(self) -> int:
        """How many voices sound."""
        return self._count

    @property
    def held(self) -> int:
        """How many of them are held by a key or the pedal."""
        rows = self._voices[:, : self._count]
        return int(((rows[_HELD] > 0) | (rows[_PEDAL] > 0)).sum())

    def apply(self, status: int, number: int, value: int) -> None:
        """Take one channel message."""
        channel, kind = status & 0x0F, status & 0xF0
        if kind == NOTE_ON and value:
            self._note_on(channel, number, value)
        elif kind in (NOTE_ON, NOTE_OFF):
            self._note_off(channel, number)
        elif kind == CONTROL:
            self._control(channel, number, value)
        elif kind == PROGRAM:
            self._programs[channel] = number
        elif kind == _PITCH_BEND:
            self._bends[channel] = ((value << 7 | number) - 8192) / 8192 * BEND_CENTS
            for voice in self._of(channel):
                self._tune(voice)

    def release_all(self) -> None:
        """Let go of every key and every pedal."""
        for controllers in self._controllers:
            controllers[SUSTAIN] = 0
        rows = self._voices[:, : self._count]
        for voice in np.nonzero((rows[_HELD] > 0) | (rows[_PEDAL] > 0))[0]:
            self._release(int(voice))

    def render(self, out: NDArray[np.float32]) -> None:
        """Fill (frames, 2) with what sounds next, left and right."""
        for start in range(0, len(out), CHUNK):
            self._render(out[start : start + CHUNK])

    # Messages

    def _of(self, channel: int) -> list[int]:
        return [int(v) for v in np.nonzero(self._voices[_CHANNEL, : self._count] == channel)[0]]

    def _note_on(self, channel: int, key: int, velocity: int) -> None:
        instrument = self.samples.ready(channel, self._programs[channel])
        if instrument is None:
            self.unprepared += 1
            return
        self._note_off(channel, key, pedal=False)
        for playable in instrument[key]:
            low, high = playable.zone.velocities
            if low <= velocity <= high:
                if playable.zone.exclusive:
                    self._exclude(channel, playable.zone.exclusive)
                self._begin(playable, channel, key, velocity)
        self._begun += 1

    def _note_off(self, channel: int, key: int, pedal: bool = True) -> None:
        """Release a key; without `pedal` whether or not that is down."""
        rows = self._voices[:, : self._count]
        sounding = (rows[_HELD] > 0) | (rows[_PEDAL] > 0)
        down = pedal and self._controllers[channel][SUSTAIN] >= 64
        for voice in np.nonzero(sounding & (rows[_CHANNEL] == channel) & (rows[_KEY] == key))[0]:
            if down:
                rows[_HELD, voice], rows[_PEDAL, voice] = 0, 1
            else:
                self._release(int(voice))

    def _control(self, channel: int, number: int, value: int) -> None:
        rows = self._voices
        if number == ALL_SOUND_OFF:
            for voice in self._of(channel):
                rows[_HELD, voice] = rows[_PEDAL, voice] = 0
                self._fade(voice)
        elif number == ALL_NOTES_OFF:
            for voice in self._of(channel):
                if rows[_HELD, voice]:
                    self._note_off(channel, int(rows[_KEY, voice]))
        elif number == _RESET:
            # Volume and panorama stay, says the recommended practice RP-015.
            self._controllers[channel][_EXPRESSION] = 127
            self._bends[channel] = 0.0
            self._control(channel, SUSTAIN, 0)
            for voice in self._of(channel):
                self._tune(voice)
                self._level(voice)
        elif number in _CONTROLLERS:
            self._controllers[channel][number] = value
            for voice in self._of(channel):
                if number != SUSTAIN:
                    self._level(voice)
                elif value < 64 and rows[_PEDAL, voice]:
                    self._release(voice)

    def _exclude(self, channel: int, group: int) -> None:
        for voice in self._of(channel):
            # The zones of one note belong together.
            if (
                self._voices[_EXCLUSIVE, voice] == group
                and self._voices[_NUMBER, voice] != self._begun
            ):
                self._voices[_HELD, voice] = self._voices[_PEDAL, voice] = 0
                self._fade(voice)

    # One voice

    def _begin(self, playable: Playable, channel: int, key: int, velocity: int) -> None:
        if self._count == VOICES:
            rows = self._voices
            quietest = int(np.argmin(rows[_AMPLITUDE] + 10 * (rows[_HELD] > 0)))
            self._end(quietest)
            self.stolen += 1
        zone = playable.zone
        voice = self._count
        self._playables[voice] = playable
        v = self._voices[:, voice]
        v[:] = 0
        v[_CHANNEL], v[_KEY], v[_HELD] = channel, key, 1
        v[_EXCLUSIVE], v[_NUMBER] = zone.exclusive, self._begun
        v[_BASE], v[_STRIDE], v[_END] = playable.at, playable.length, playable.end
        if playable.loop is not None:
            v[_LOOP_END] = playable.loop[1]
            v[_LOOP_LENGTH] = playable.loop[1] - playable.loop[0]
        v[_SUSTAIN], v[_PEAK], v[_RELEASED] = 10.0 ** (-zone.volume.sustain / 200), 1, _NEVER
        v[_F_SUSTAIN], v[_F_PEAK] = 1 - zone.filter_stages.sustain / 1000, 1
        _stages(v, _DELAY, zone.volume, key, _FALL)
        _stages(v, _F_DELAY, zone.filter_stages, key, 1.0)
        v[_RELEASE] = _FALL / (max(zone.volume.release, _QUICK_S) * RATE_HZ)
        v[_F_RELEASE] = 1 / (max(zone.filter_stages.release, _QUICK_S) * RATE_HZ)
        # An octave below the highest frequency of the sample is two levels.
        open_cents = 1200 * math.log2(zone.rate_hz / 2 / 8.176)
        v[_F_BASE] = (open_cents - zone.cutoff_cents) / LEVEL_CENTS
        v[_F_DEPTH] = -zone.cutoff_by_envelope_cents / LEVEL_CENTS
        loud = (velocity if zone.fixed_velocity < 0 else zone.fixed_velocity) / 127
        v[_LOUDNESS] = loud * loud * zone.gain
        self._count += 1
        self._level(voice)
        v[_STEP] = zone.rate_hz * OVERSAMPLING / RATE_HZ
        self._tune(voice)
        if zone.volume.delay == 0 and zone.volume.attack < _SHORT_ATTACK_S:
            # A chunk is about as long: a ramp over it would only be later.
            v[_AMPLITUDE] = 1

    def _tune(self, voice: int) -> None:
        playable = self._playables[voice]
        assert playable is not None
        zone, v = playable.zone, self._voices[:, voice]
        key = int(v[_KEY]) if zone.fixed_key < 0 else zone.fixed_key
        moves = step(zone, key, self._bends[int(v[_CHANNEL])])
        # The cutoff is a frequency of what is heard: on the sample it moves against the pitch.
        v[_F_BASE] += math.log2(moves / v[_STEP]) * 1200 / LEVEL_CENTS
        v[_STEP] = moves

    def _level(self, voice: int) -> None:
        """Set left and right from the note, the zone and the channel."""
        playable = self._playables[voice]
        assert playable is not None
        v = self._voices[:, voice]
        of = self._controllers[int(v[_CHANNEL])]
        loud = v[_LOUDNESS] * self._gain * (of[_VOLUME] / 127 * of[_EXPRESSION] / 127) ** 2
        pan = min(max(playable.zone.pan + (of[_PAN] - 64) / 64, -1.0), 1.0)
        angle = (pan + 1) * math.pi / 4
        v[_LEFT], v[_RIGHT] = loud * math.cos(angle), loud * math.sin(angle)

    def _release(self, voice: int) -> None:
        """Let a voice fade as its font says, from where it is now."""
        v = self._voices[:, voice]
        time = v[_TIME]
        risen = min(max((time - v[_DELAY]) * v[_ATTACK], 0.0), 1.0)
        fallen = max(math.exp(-v[_DECAY] * max(time - v[_HOLD], 0.0)), v[_SUSTAIN])
        v[_PEAK] *= risen * fallen
        f_risen = min(max((time - v[_F_DELAY]) * v[_F_ATTACK], 0.0), 1.0)
        v[_F_PEAK] *= f_risen * max(1 - v[_F_DECAY] * max(time - v[_F_HOLD], 0.0), v[_F_SUSTAIN])
        for delay, attack, hold, decay in (
            (_DELAY, _ATTACK, _HOLD, _DECAY), (_F_DELAY, _F_ATTACK, _F_HOLD, _F_DECAY)
        ):  # fmt: skip
            v[delay], v[attack], v[hold], v[decay] = -2, 1, -1, 0
        v[_RELEASED] = time
        v[_HELD] = v[_PEDAL] = 0

    def _fade(self, voice: int) -> None:
        """Silence a voice as fast as can be done without a click."""
        if self._voices[_RELEASED, voice] == _NEVER:
            self._release(voice)
        self._voices[_RELEASE, voice] = _FALL / (_QUICK_S * RATE_HZ)

    def _end(self, voice: int) -> None:
        last = self._count - 1
        self._voices[:, voice] = self._voices[:, last]
        self._playables[voice] = self._playables[last]
        self._playables[last] = None
        self._count = last

    # All voices

    def _render(self, out: NDArray[np.float32]) -> None:
        voices, frames = self._count, len(out)
        if not voices:
            out[:] = 0
            return
        size = voices * frames
        rows = self._voices[:, :voices]
        # Where in its sample each voice is, whole and between.
        position = self._position[:size].reshape(voices, frames)
        whole = self._whole[:size].reshape(voices, frames)
        np.multiply(rows[_STEP, :, None], self._ramp[:frames], out=position, casting="same_kind")
        position += rows[_BETWEEN].astype(np.float32)[:, None]
        np.floor(position, out=whole)
        position -= whole
        # Every voice is taken twice, from the two versions of its sample that it lies between.
        level = np.minimum(np.maximum(self._filter_level(rows), 0), LEVELS - 1)
        lower = np.minimum(np.floor(level), LEVELS - 2)
        share = level - lower
        start = rows[_BASE] + rows[_AT] + lower * rows[_STRIDE]
        starts = np.stack([start, start + rows[_STRIDE]]).astype(np.intp)
        index = self._index[: 2 * size].reshape(2, voices, frames)
        np.copyto(index, whole, casting="unsafe")
        index += starts[:, :, None]
        taken = self._taken[: 2 * size].reshape(2, voices, frames)
        np.take(self.samples.pool, index, out=taken, mode="clip")
        sound = self._sound[: 2 * size].reshape(2, voices, frames)
        np.multiply(taken.imag, position, out=sound)
        sound += taken.real
        # Loudness at the start of the chunk and by how much it changes until its end.
        before = rows[_AMPLITUDE].copy()
        rows[_TIME] += frames
        change = self._amplitude(rows) - before
        gains = self._gains[:, : 2 * voices].reshape(4, 2, voices)
        for version, part in enumerate((1 - share, share)):
            for side, row in enumerate((_LEFT, _RIGHT)):
                loud = part * rows[row]
                np.multiply(loud, before, out=gains[side, version], casting="same_kind")
                np.multiply(loud, change, out=gains[2 + side, version], casting="same_kind")
        mixed = gains.reshape(4, -1) @ sound.reshape(2 * voices, frames)
        rise = self._ramp[:frames] / frames
        np.multiply(mixed[2:], rise, out=mixed[2:])
        np.add(mixed[:2].T, mixed[2:].T, out=out)
        self._advance(rows, frames)

    def _filter_level(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        time = rows[_TIME]
        risen = np.minimum(np.maximum((time - rows[_F_DELAY]) * rows[_F_ATTACK], 0), 1)
        fallen = 1 - rows[_F_DECAY] * np.maximum(time - rows[_F_HOLD], 0)
        envelope = rows[_F_PEAK] * risen * np.maximum(fallen, rows[_F_SUSTAIN])
        envelope -= rows[_F_RELEASE] * np.maximum(time - rows[_RELEASED], 0)
        level: NDArray[np.float64] = rows[_F_BASE] + rows[_F_DEPTH] * np.maximum(envelope, 0)
        return level

    def _amplitude(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        time = rows[_TIME]
        risen = np.minimum(np.maximum((time - rows[_DELAY]) * rows[_ATTACK], 0), 1)
        fallen = np.exp(-rows[_DECAY] * np.maximum(time - rows[_HOLD], 0))
        risen *= rows[_PEAK] * np.maximum(fallen, rows[_SUSTAIN])
        risen *= np.exp(-rows[_RELEASE] * np.maximum(time - rows[_RELEASED], 0))
        rows[_AMPLITUDE] = risen
        return np.asarray(risen)

    def _advance(self, rows: NDArray[np.float64], frames: int) -> None:
        """Move every voice on, around its loop, and end those that are over."""
        on = rows[_BETWEEN] + rows[_STEP] * frames
        whole = np.floor(on)
        rows[_BETWEEN] = on - whole
        rows[_AT] += whole
        beyond = rows[_AT] - rows[_LOOP_END]
        length = rows[_LOOP_LENGTH]
        around = (beyond >= 0) & (length > 0)
        if around.any():
            turns = np.floor(beyond[around] / length[around]) + 1
            rows[_AT, around] -= turns * length[around]
        over = (rows[_AMPLITUDE] < _INAUDIBLE) & (rows[_TIME] > rows[_HOLD])
        over |= (rows[_AT] >= rows[_END]) & (length == 0)
        if over.any():
            # From the last on, so that those that move into the gaps are not among them.
            for voice in np.nonzero(over)[0][::-1]:
                self._end(int(voice))


def _stages(
    voice: NDArray[np.float64], first: int, envelope: Envelope, key: int, fall: float
) -> None:
    """Set delay, attack, hold and decay, which follow each other, from seconds."""
    hold_s = envelope.hold * 2.0 ** (envelope.hold_by_key * (60 - key) / 1200)
    decay_s = envelope.decay * 2.0 ** (envelope.decay_by_key * (60 - key) / 1200)
    voice[first] = envelope.delay * RATE_HZ
    voice[first + 1] = 1 / max(envelope.attack * RATE_HZ, 1.0)
    voice[first + 2] = (envelope.delay + envelope.attack + hold_s) * RATE_HZ
    voice[first + 3] = fall / max(decay_s * RATE_HZ, 1.0)
