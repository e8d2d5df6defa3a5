"""Sound cards, as PortAudio knows them."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.captured import captured_output
from stream.errors import ConfigError, MissingExtraError
from stream.music.sound.player import Player
from stream.music.sound.samples import RATE_HZ

_CHANNELS = 2
_LOOK_S = 0.25
_STALLED_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 8.0
_INSTALL = {
    "linux": "on Debian and Ubuntu: apt install libportaudio2 libasound2-plugins",
    "darwin": "pip install --force-reinstall sounddevice",
    "win32": "pip install --force-reinstall sounddevice",
}
_ADVICE = "look at its cable and at the sound server; it is tried again"
WITHOUT = "A 'file' alone needs neither sound card nor PortAudio."


@dataclass(frozen=True)
class Wanted:
    """What is asked of a sound card.

    Attributes
    ----------
    device
        Number or part of the name; None for the default of the system.
    block
        Frames between two callbacks.
    latency_s
        What PortAudio is asked to keep between a callback and the sound.
    """

    device: int | str | None
    block: int
    latency_s: float

    @property
    def name(self) -> str:
        """The card in messages."""
        return "the default sound card" if self.device is None else f"sound card {self.device!r}"

    def stream(self, **more: Any) -> dict[str, Any]:
        """Return what a stream of `sounddevice` is opened with."""
        return {
            "device": self.device, "channels": _CHANNELS, "dtype": "float32",
            "samplerate": RATE_HZ, "blocksize": self.block, "latency": self.latency_s, **more,
        }  # fmt: skip


def load_sounddevice() -> Any:
    """Return the module `sounddevice`, which finds the sound cards there are when first loaded.

    Raises
    ------
    MissingExtraError
        It is not installed.
    ConfigError
        It is, but the library PortAudio is not there.
    """
    try:
        return importlib.import_module("sounddevice")
    except ModuleNotFoundError as error:
        raise MissingExtraError("Sound from a sound card", "audio") from error
    except OSError as error:
        how = _INSTALL.get(sys.platform, "install it as your system does")
        raise ConfigError(
            f"the library PortAudio cannot be loaded ({error}); {how}. {WITHOUT}"
        ) from None


def check_card(wanted: Wanted) -> str:
    """Return the name of the card that is asked for.

    Raises
    ------
    MissingExtraError, ConfigError
        There is no such card, or it does not play 48 kHz; or as `load_sounddevice`.
    """
    # PortAudio and what it finds sound cards with write what they think to stderr.
    with captured_output():
        sd = load_sounddevice()
        names = [card["name"] for card in sd.query_devices() if card["max_output_channels"] > 0]
        try:
            name = str(sd.query_devices(wanted.device, "output")["name"])
            problem = ""
        except (ValueError, sd.PortAudioError):
            problem = f"{wanted.name} is not there"
        else:
            try:
                sd.check_output_settings(
                    device=wanted.device, channels=_CHANNELS, dtype="float32", samplerate=RATE_HZ
                )
            except sd.PortAudioError as error:
                problem = f"{wanted.name} does not play stereo at 48 kHz ({error.args[0]})"
    if problem:
        there = f"there are {', '.join(map(repr, names))}" if names else "there is none"
        raise ConfigError(
            f"device: {problem}; {there}. Is the sound server running, and may you use it?"
            f" {WITHOUT}"
        )
    return name


class Speaker:
    """Plays what a player makes on a sound card, and comes back to a card that went away.

    A thread of its own opens the card and looks after it, since that may take seconds.

    Attributes
    ----------
    in_run
        Whether a run is on. While one starts or closes it has no real-time priority.
    underruns, underruns_at_ends
        How often the card had to play before there was something, in the run and else.
    outages, away_s
        How often it went away, and for how long in all.
    latency_s
        What the card says lies between a callback and the sound.
    trouble
        Why there is no sound at the moment, empty while there is.
    """

    def __init__(self, wanted: Wanted, player: Player) -> None:
        self.in_run = False
        self.underruns = 0
        self.underruns_at_ends = 0
        self.outages = 0
        self.away_s = 0.0
        self.latency_s = 0.0
        self.trouble = "not opened yet"
        self._wanted = wanted
        self._player = player
        self._sd = load_sounddevice()
        self._callbacks = 0
        self._stop = threading.Event()
        self._look = threading.Event()
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._run, name="speaker", daemon=True)
        self._thread.start()

    def wait_open(self, alive: Callable[[], None]) -> None:
        """Wait until the card has been tried, calling `alive` meanwhile."""
        while not self._opened.wait(0.1):
            alive()

    def close(self, wait_s: float = 2.0) -> None:
        """Stop; what was handed to the card before is played."""
        self._stop.set()
        self._look.set()
        self._thread.join(wait_s)

    def _run(self) -> None:
        try:
            self._keep()
        except Exception as error:  # The node raises it: in here nobody would see it.
            self._player.error = error
            self._opened.set()

    def _keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        stream: Any = None
        lost_at = time.monotonic()
        while not self._stop.is_set():
            if stream is None:
                stream = self._open()
                if stream is not None:
                    self.trouble = ""
                    pause_s = _FIRST_PAUSE_S
                    if self.outages:
                        self.away_s += time.monotonic() - lost_at
                self._opened.set()
                if stream is None:
                    self._stop.wait(pause_s)
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                    self._find_cards_anew()
                    continue
            self._look.clear()
            if self._plays(stream):
                continue
            if self._stop.is_set():
                break
            lost_at = time.monotonic()
            self.outages += 1
            self.trouble = f"{self._wanted.name} went away or stopped: {_ADVICE}"
            self._drop(stream)
            stream = None
            self._find_cards_anew()
        if stream is not None:
            self._drop(stream, abort=False)
        elif self.outages:
            self.away_s += time.monotonic() - lost_at

    def _plays(self, stream: Any) -> bool:
        """Wait a moment and tell whether the card still takes samples."""
        before, end = self._callbacks, time.monotonic() + _STALLED_S
        while not self._stop.is_set():
            self._look.wait(_LOOK_S)
            if not stream.active:
                return False
            if self._callbacks != before:
                return True
            if time.monotonic() > end:
                return False
        return False

    def _open(self) -> Any:
        # What was played before an outage is over.
        self._player.begin_anew()
        try:
            stream = self._sd.OutputStream(
                **self._wanted.stream(callback=self._callback, finished_callback=self._look.set)
            )
            stream.start()
        except (self._sd.PortAudioError, ValueError) as error:
            self.trouble = f"{self._wanted.name} cannot be opened ({error.args[0]}): {_ADVICE}"
            return None
        self.latency_s = float(stream.latency)
        return stream

    def _drop(self, stream: Any, abort: bool = True) -> None:
        try:
            if abort:
                stream.abort()
            else:
                stream.stop()
            stream.close()
        except self._sd.PortAudioError as error:
            self.trouble = self.trouble or f"{self._wanted.name} could not be closed ({error})"

    def _find_cards_anew(self) -> None:
        # PortAudio looks for cards only when it starts, and `sounddevice` has no other way to ask.
        # Whether that worked, opening a card will tell.
        for again in (self._sd._terminate, self._sd._initialize):
            with contextlib.suppress(self._sd.PortAudioError):
                again()

    def _callback(self, out: NDArray[np.float32], frames: int, times: Any, status: Any) -> None:
        self._callbacks += 1
        if status.output_underflow:
            self.underruns += self.in_run
            self.underruns_at_ends += not self.in_run
        ahead_s = times.outputBufferDacTime - times.currentTime
        if not 0 < ahead_s < 1:
            ahead_s = self.latency_s
        try:
            self._player.fill(out, int(ahead_s * 1e9))
        except Exception as error:  # The node raises it: in here nobody would see it.
            self._player.error = error
            out[:] = 0
