"""The message of a home-made rig: a JSON object or msgpack map, as in docs/instruments.md."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from stream.errors import WireError

LARGEST_BYTES = 1024 * 1024
"""Of one message; a datagram is at most 64 KiB anyway."""
_CLOCK_LIMIT_NS = 2**61
# First bytes of a msgpack map.
_MAPS = {bytes([first]) for first in (*range(0x80, 0x90), 0xDE, 0xDF)}


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """What a rig says at once.

    Attributes
    ----------
    t
        Its time: of the first sample or of the bin's beginning; of spikes, before which no more
        will follow. A message with nothing else only lets time pass.
    seq
        Number of the message, rising by one, so that losses are seen.
    spikes
        Pairs of time and unit, the latter as index or name.
    counts, samples, values
        One number a unit; for each sample one number a channel; a number for each name.
    """

    t: int | float | None = None
    seq: int | None = None
    spikes: list[tuple[int | float, int | str]] | None = None
    counts: list[float] | None = None
    samples: list[list[float]] | None = None
    values: dict[str, float] | None = None


_json = msgspec.json.Decoder(Message)
_msgpack = msgspec.msgpack.Decoder(Message)


class RefusedError(WireError):
    """A message that cannot be used. `reason` is what it is counted as."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_message(data: bytes) -> Message:
    """Read a message, as JSON if it begins with `{` and as msgpack otherwise.

    Raises
    ------
    RefusedError
        It is too large, neither JSON nor msgpack, or has keys or types that no message has.
    """
    if len(data) > LARGEST_BYTES:
        raise RefusedError(
            "too_large", f"a message of {len(data)} bytes; {LARGEST_BYTES} are the limit"
        )
    decoder: Any = _json if data.lstrip()[:1] == b"{" else _msgpack
    if decoder is _msgpack and data[:1] not in _MAPS:
        raise RefusedError("unreadable", f"neither a JSON object nor a msgpack map: {data[:20]!r}")
    try:
        message: Message = decoder.decode(data)
    except msgspec.ValidationError as error:
        raise RefusedError(
            "not_a_message", f"a message with something unknown in it: {error}"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError("unreadable", f"neither JSON nor msgpack: {error}") from None
    return message


class Ticks:
    """Turns times as a rig writes them into numbers of its clock.

    Parameters
    ----------
    rate_hz
        Ticks a second of a rig that counts, such as its sample rate; None for one that writes
        seconds, which become nanoseconds here.
    """

    def __init__(self, rate_hz: float | None) -> None:
        self.rate_hz = 1e9 if rate_hz is None else rate_hz
        self._seconds = rate_hz is None
        self._most = _CLOCK_LIMIT_NS / 1e9 * self.rate_hz

    def of(self, time: int | float | None) -> int:
        """Return the tick of a time.

        Raises
        ------
        RefusedError
            It is missing, not finite, further away than any clock goes, or no whole tick.
        """
        if time is None:
            raise RefusedError("no_time", "a message without the time 't'")
        if not math.isfinite(time) or abs(time * 1e9 if self._seconds else time) > self._most:
            raise RefusedError("bad_time", f"the time {time!r}, which is none")
        if self._seconds:
            return round(time * 1e9)
        if time != int(time):
            raise RefusedError(
                "bad_time", f"the time {time!r}, where ticks are counted; set no 'rate'"
            )
        return int(time)
