"""What the ZMQ Interface of Open Ephys sends: three kinds of message, read and checked.

Source: `Source/ZmqInterface.cpp` of open-ephys-plugins/zmq-interface (2025). A message has an
envelope (`DATA` or `EVENT`, ended by a zero byte), a header in JSON, and mostly a payload.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated

import msgspec

from stream.errors import WireError

HEADER_LIMIT_BYTES = 64 * 1024
_TTL_TYPE = 3
_TTL = struct.Struct("<BBQ")
_MOST_CHANNELS = 65_536
_MOST_SAMPLES = 4_000_000

# Beyond these, sums with them might not fit into 64 bits.
Sample = Annotated[int, msgspec.Meta(ge=-(2**52), le=2**52)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_SAMPLES)]
_Channels = Annotated[int, msgspec.Meta(ge=0, le=_MOST_CHANNELS)]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e7)]
_Text = Annotated[str, msgspec.Meta(max_length=1000)]


class Block(msgspec.Struct):
    """Of `Data`: which channel, and the samples from `sample_num` on."""

    stream: _Text
    channel_num: _Channels
    num_samples: _Count
    sample_num: Sample
    sample_rate: Rate
    channel_name: _Text = ""


class Edge(msgspec.Struct):
    """Of `Event`: when. What happened stands in the payload."""

    stream: _Text
    type: int
    sample_num: Sample
    source_node: int = 0


class Waveform(msgspec.Struct):
    """Of `Spike`: on which electrode the peak was when. `sorted_id` is 0 for unsorted ones."""

    stream: _Text
    electrode: _Text | int
    sample_num: Sample
    num_channels: _Channels
    num_samples: _Count
    sorted_id: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0


class Data(msgspec.Struct, tag="data", tag_field="type"):
    """A block of samples of one channel; the payload is float32, in uV."""

    message_num: int
    content: Block
    data_size: int


class Event(msgspec.Struct, tag="event", tag_field="type"):
    """A TTL event; `ttl_edge` reads its payload."""

    message_num: int
    content: Edge
    data_size: int


class Spike(msgspec.Struct, tag="spike", tag_field="type"):
    """A spike; the payload is its waveform, float32, one channel after the other."""

    message_num: int
    spike: Waveform


Message = Data | Event | Spike

_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Data | Event | Spike)


def decode(frames: Sequence[bytes]) -> Message:
    """Read the frames of a message, of which the payload is the last.

    Raises
    ------
    WireError
        They are no message of the ZMQ Interface, or its payload is not as long as it says.
    """
    if not 2 <= len(frames) <= 3 or frames[0] not in (b"DATA\0", b"EVENT\0"):
        if len(frames) == 2 and len(frames[0]) == 2:
            raise WireError("a message of the Event Broadcaster came in, which is another plugin")
        raise WireError(f"a message of {len(frames)} frames began with {b''.join(frames)[:12]!r}")
    header = frames[1]
    if len(header) > HEADER_LIMIT_BYTES:
        raise WireError(f"a header of {len(header)} bytes came in, at most {HEADER_LIMIT_BYTES} do")
    try:
        message = _decoder.decode(header)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"a header came in that is none ({error})") from None
    size = len(frames[2]) if len(frames) == 3 else 0
    says = _payload_bytes(message)
    if size != says:
        raise WireError(f"a payload of {size} bytes came with a header that says {says}")
    return message


def _payload_bytes(message: Message) -> int:
    if isinstance(message, Data):
        if message.data_size != 4 * message.content.num_samples:
            raise WireError(
                f"a header says {message.data_size} bytes and {message.content.num_samples} samples"
            )
        return message.data_size
    if isinstance(message, Spike):
        return 4 * message.spike.num_channels * message.spike.num_samples
    return message.data_size


def ttl_edge(message: Event, payload: bytes) -> tuple[int, bool]:
    """Return the line of a TTL event, from 0, and whether it went up.

    Raises
    ------
    WireError
        It is another event, or its payload is not that of a TTL event.
    """
    if message.content.type != _TTL_TYPE:
        raise WireError(f"an event of type {message.content.type} came in, TTL is {_TTL_TYPE}")
    if len(payload) != _TTL.size:
        raise WireError(f"a TTL event of {len(payload)} bytes came in, it has {_TTL.size}")
    line, state, _ = _TTL.unpack(payload)
    return line, bool(state)
