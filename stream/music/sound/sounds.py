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
from stream.music.sound.samples import (
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
from stream.music.sound.soundfont import Envelope

VOICES = 128
CHANNELS = 16

_PITCH_BEND = 0xE0
_VOLUME, _PAN, _EXPRESSION, _RESET = 7, 10, 11, 121
_CONTROLLERS = {_VOLUME: 100, _PAN: 64, _EXPRESSION: 127, SUSTAIN: 0}
_INAUDIBLE = 2e-5
_QUICK_S = 0.005
_NEVER = 1e18
_SHORT_ATTACK_S = 0.003
_LAST_LEVEL = LEVELS - 1 - 1e-9

# What is kept of each voice, a row each. Times are in frames since the voice began. The stages of
# the two envelopes lie beside each other, so that both are computed at once.
(
    _AT, _BETWEEN, _STEP, _BASE, _STRIDE, _LOOP_END, _LOOP_LENGTH, _END, _TIME, _RELEASED,
    _DELAY, _F_DELAY, _ATTACK, _F_ATTACK, _HOLD, _F_HOLD, _DECAY, _F_DECAY, _SUSTAIN, _F_SUSTAIN,
    _PEAK, _F_PEAK, _RELEASE, _F_RELEASE,
    _F_BASE, _F_DEPTH, _LEFT, _RIGHT, _LOUDNESS, _AMPLITUDE,
    _CHANNEL, _KEY, _HELD, _PEDAL, _EXCLUSIVE, _NUMBER,
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
        v[_LOOP_END] = _NEVER
        if playable.loop is not None:
            v[_END] = _NEVER
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
        # Neither envelope does anything any more but to be released.
        v[_DELAY:_ATTACK], v[_ATTACK:_HOLD] = -2, 1
        v[_HOLD:_DECAY], v[_DECAY:_SUSTAIN] = -1, 0
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
        # Loudness at the start of the chunk, and by how much it changes until its end.
        rows[_TIME] += frames
        loudness = np.empty((2, 1, 1, voices))
        loudness[0] = rows[_AMPLITUDE]
        level = self._envelopes(rows)
        np.subtract(rows[_AMPLITUDE], loudness[0], out=loudness[1])
        # Every voice is taken twice, from the two versions of its sample that it lies between.
        lower = np.floor(level)
        shares = np.empty((2, voices))
        np.subtract(level, lower, out=shares[1])
        np.subtract(1, shares[1], out=shares[0])
        lower *= rows[_STRIDE]
        lower += rows[_BASE]
        lower += rows[_AT]
        starts = np.empty((2, voices, 1), np.intp)
        np.copyto(starts[0, :, 0], lower, casting="unsafe")
        np.add(lower, rows[_STRIDE], out=starts[1, :, 0], casting="unsafe")
        index = self._index[: 2 * size].reshape(2, voices, frames)
        np.copyto(index[0], whole, casting="unsafe")
        np.add(index[0], starts[1], out=index[1])
        index[0] += starts[0]
        taken = self._taken[: 2 * size].reshape(2, voices, frames)
        np.take(self.samples.pool, index, out=taken, mode="clip")
        sound = self._sound[: 2 * size].reshape(2, voices, frames)
        np.multiply(taken.imag, position, out=sound)
        sound += taken.real
        # What each voice adds at the start and by the end, left and right, from both versions.
        gains = self._gains[:, : 2 * voices].reshape(2, 2, 2, voices)
        sides = rows[_LEFT:_LOUDNESS].reshape(2, 1, voices)
        np.multiply(loudness * shares, sides, out=gains, casting="same_kind")
        mixed = gains.reshape(4, -1) @ sound.reshape(2 * voices, frames)
        mixed[2:] *= self._ramp[:frames] / frames
        np.add(mixed[:2].T, mixed[2:].T, out=out)
        self._advance(rows, frames)

    def _envelopes(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Set the amplitudes of the present, and return between which versions voices lie."""
        time = rows[_TIME]
        state = time - rows[_DELAY:_ATTACK]
        state *= rows[_ATTACK:_HOLD]
        np.maximum(state, 0, out=state)
        np.minimum(state, 1, out=state)
        fallen = time - rows[_HOLD:_DECAY]
        np.maximum(fallen, 0, out=fallen)
        fallen *= rows[_DECAY:_SUSTAIN]
        # The volume falls by so many decibels in a second, the filter by so many cents.
        np.exp(-fallen[0], out=fallen[0])
        np.subtract(1, fallen[1], out=fallen[1])
        np.maximum(fallen, rows[_SUSTAIN:_PEAK], out=fallen)
        state *= fallen
        state *= rows[_PEAK:_RELEASE]
        released = np.maximum(time - rows[_RELEASED], 0) * rows[_RELEASE:_F_BASE]
        np.multiply(state[0], np.exp(-released[0]), out=rows[_AMPLITUDE])
        level = np.maximum(state[1] - released[1], 0)
        level *= rows[_F_DEPTH]
        level += rows[_F_BASE]
        np.maximum(level, 0, out=level)
        np.minimum(level, _LAST_LEVEL, out=level)
        return np.asarray(level)

    def _advance(self, rows: NDArray[np.float64], frames: int) -> None:
        """Move every voice on, around its loop, and end those that are over."""
        on = rows[_STEP] * frames
        on += rows[_BETWEEN]
        whole = np.floor(on)
        np.subtract(on, whole, out=rows[_BETWEEN])
        rows[_AT] += whole
        around = rows[_AT] >= rows[_LOOP_END]
        if around.any():
            beyond, length = rows[_AT, around] - rows[_LOOP_END, around], rows[_LOOP_LENGTH, around]
            rows[_AT, around] -= (np.floor(beyond / length) + 1) * length
        over = rows[_AMPLITUDE] < _INAUDIBLE
        over &= rows[_TIME] > rows[_HOLD]
        over |= rows[_AT] >= rows[_END]
        if over.any():
            # From the last on, so that those that move into the gaps are not among them.
            for voice in np.nonzero(over)[0][::-1]:
                self._end(int(voice))


def _stages(
    voice: NDArray[np.float64], first: int, envelope: Envelope, key: int, fall: float
) -> None:
    """Set delay, attack, hold and decay from seconds; each lies two rows after the one before."""
    hold_s = envelope.hold * 2.0 ** (envelope.hold_by_key * (60 - key) / 1200)
    decay_s = envelope.decay * 2.0 ** (envelope.decay_by_key * (60 - key) / 1200)
    voice[first] = envelope.delay * RATE_HZ
    voice[first + 2] = 1 / max(envelope.attack * RATE_HZ, 1.0)
    voice[first + 4] = (envelope.delay + envelope.attack + hold_s) * RATE_HZ
    voice[first + 6] = fall / max(decay_s * RATE_HZ, 1.0)
