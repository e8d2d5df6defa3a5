"""Notes that arrive while sound is being made: what a callback of a sound card asks for samples."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream.music.held import Message
from stream.music.sound.samples import RATE_HZ
from stream.music.sound.sounds import Synth
from stream.units import to_ns

_SLACK_NS = to_ns(0.001)
_FOLLOWS = 0.02
_ASTRAY_NS = to_ns(0.03)


class Player:
    """Plays messages that one thread gives while another one takes sound. Neither ever waits.

    With a delay, each message sounds that long after the acquisition of what it was made from, as
    exactly as is known when a sample will be heard; without one, in the next samples.

    Attributes
    ----------
    late
        Messages that came too late for the delay and were played at once.
    silences
        How often everything was released because nothing had come for too long.
    clipped
        Blocks that were too loud.
    error
        What went wrong in the thread that takes sound.
    """

    def __init__(
        self,
        synth: Synth,
        *,
        delay_s: float | None,
        silence_s: float,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.late = 0
        self.silences = 0
        self.clipped = 0
        self.error: Exception | None = None
        self.synth = synth
        self._delay_ns = None if delay_s is None else to_ns(delay_s)
        self._silence_ns = to_ns(silence_s) + (self._delay_ns or 0)
        self._clock = clock
        self._heard_at_ns = 0
        self._last_ns = clock()
        self._arrived: deque[tuple[int, list[Message]]] = deque()
        self._waiting: list[tuple[int, int, list[Message]]] = []
        self._number = 0
        self._released = True
        self._over = False
        self._anew = False

    @property
    def waits(self) -> bool:
        """Whether messages have not been played yet."""
        return bool(self._arrived or self._waiting)

    def give(self, t_ns: int, messages: list[Message]) -> None:
        """Play what was acquired at a time. No messages at all say that the sender is alive."""
        self._last_ns = self._clock()
        if messages:
            self._arrived.append((t_ns, messages))

    def fill(self, out: NDArray[np.float32], until_heard_ns: int) -> None:
        """Write the next samples (frames, 2); the first is heard that long after now."""
        now_ns = self._clock()
        silent = now_ns - self._last_ns > self._silence_ns
        if self._anew or ((silent or self._over) and not self._released):
            self._anew = False
            self._arrived.clear()
            self._waiting.clear()
            if self.synth.held:
                self.silences += silent
                self.synth.release_all()
        self._released = silent or self._over
        start_ns = self._follow(now_ns + until_heard_ns, len(out))
        while self._arrived:
            t_ns, messages = self._arrived.popleft()
            due_ns = 0
            if self._delay_ns is not None:
                due_ns = t_ns + self._delay_ns
                if due_ns < start_ns - _SLACK_NS:
                    self.late += len(messages)
            heapq.heappush(self._waiting, (due_ns, self._number, messages))
            self._number += 1
        done = 0
        while self._waiting:
            due_ns = self._waiting[0][0]
            at = max(done, (due_ns - start_ns) * RATE_HZ // 1_000_000_000)
            if at >= len(out):
                break
            _, _, messages = heapq.heappop(self._waiting)
            self.synth.render(out[done:at])
            done = at
            for status, number, value in messages:
                self.synth.apply(status, number, value)
        self.synth.render(out[done:])
        if max(out.max(), -out.min()) > 1:
            self.clipped += 1
            np.clip(out, -1, 1, out=out)

    def begin_anew(self) -> None:
        """Forget what has come and let go of every key when sound is next taken."""
        self._anew = True

    def end(self) -> None:
        """Let go of every key when sound is next taken, and play nothing more."""
        self._over = True

    def _follow(self, measured_ns: int, frames: int) -> int:
        """Return when the first sample is heard, by a clock that is steadier than the callbacks."""
        if abs(measured_ns - self._heard_at_ns) > _ASTRAY_NS:
            self._heard_at_ns = measured_ns
        self._heard_at_ns += round(_FOLLOWS * (measured_ns - self._heard_at_ns))
        start_ns = self._heard_at_ns
        self._heard_at_ns += frames * 1_000_000_000 // RATE_HZ
        return start_ns
