"""What the Event Broadcaster of Open Ephys sends: spikes and TTL edges, in JSON or raw.

Sources: `Source/EventBroadcaster.cpp` of open-ephys-plugins/event-broadcaster (2022), and for the
raw form `Event.cpp` and `Spike.cpp` of open-ephys/plugin-GUI. A message has two frames: 0 for TTL
or 1 for a spike, as uint16, and the event.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, NamedTuple

import msgspec

from stream.errors import WireError
from stream.instruments.open_ephys.messages import Rate, Sample

_LIMIT_BYTES = 2**20
# Base type, type of channel, source node, stream, channel, sample number, time in s.
_BASE = struct.Struct("<BBHHHqd")
_LINE = struct.Struct("<BB")
_SORTED = struct.Struct("<H")
_PROCESSOR_EVENT, _SPIKE_EVENT = 1, 2
_TTL_TYPE = 3


class Happened(NamedTuple):
    """A spike, or a TTL edge (`electrode` is empty).

    `stream` is its name, in the raw form its number as a text; the raw form has no rate, and
    electrodes are called `Electrode N` by their place, from 1.
    """

    stream: str
    rate_hz: float | None
    sample: int
    electrode: str = ""
    sorted_id: int = 0
    line: int = 0
    up: bool = False


class _Ttl(msgspec.Struct, tag="ttl", tag_field="event_type"):
    stream: str
    sample_rate: Rate
    sample_number: Sample
    line: Annotated[int, msgspec.Meta(ge=0, le=65_535)]
    state: bool | int


class _Spike(msgspec.Struct, tag="spike", tag_field="event_type"):
    stream: str
    sample_rate: Rate
    sample_number: Sample
    electrode: str
    sorted_id: int = 0


_decoder: msgspec.json.Decoder[_Ttl | _Spike] = msgspec.json.Decoder(_Ttl | _Spike)


def decode(frames: Sequence[bytes]) -> Happened:
    """Read the two frames of a message.

    Raises
    ------
    WireError
        They are no message of the Event Broadcaster.
    """
    if len(frames) != 2 or frames[0] not in (b"\0\0", b"\1\0"):
        if len(frames) > 1 and frames[0] in (b"DATA\0", b"EVENT\0"):
            raise WireError("a message of the ZMQ Interface came in, which is another plugin")
        raise WireError(f"a message of {len(frames)} frames began with {b''.join(frames)[:12]!r}")
    body = frames[1]
    if len(body) > _LIMIT_BYTES:
        raise WireError(f"an event of {len(body)} bytes came in, at most {_LIMIT_BYTES} do")
    is_spike = frames[0] == b"\1\0"
    return _json(body) if body[:1] == b"{" else _raw(body, is_spike)


def _json(body: bytes) -> Happened:
    try:
        event = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"an event came in that is none ({error})") from None
    about = (event.stream, event.sample_rate, event.sample_number)
    if isinstance(event, _Spike):
        return Happened(*about, electrode=event.electrode, sorted_id=event.sorted_id)
    return Happened(*about, line=event.line, up=bool(event.state))


def _raw(body: bytes, is_spike: bool) -> Happened:
    rest = _SORTED if is_spike else _LINE
    if len(body) < _BASE.size + rest.size:
        raise WireError(f"a raw event of {len(body)} bytes came in, which is too short for one")
    base, kind, _, stream, channel, sample, _ = _BASE.unpack_from(body)
    if abs(sample) > 2**52:
        raise WireError(f"a raw event of sample {sample} came in")
    if is_spike and base == _SPIKE_EVENT:
        (sorted_id,) = _SORTED.unpack_from(body, _BASE.size)
        electrode = f"Electrode {channel + 1}"
        return Happened(str(stream), None, sample, electrode=electrode, sorted_id=sorted_id)
    if not is_spike and base == _PROCESSOR_EVENT and kind == _TTL_TYPE:
        line, up = _LINE.unpack_from(body, _BASE.size)
        return Happened(str(stream), None, sample, line=line, up=bool(up))
    raise WireError(f"a raw event of the types {base} and {kind} came in, which is none of ours")
