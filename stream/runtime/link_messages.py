"""What the two ends of a link share: the form of its messages, its window and its sockets.

Each message is one frame, since a frame costs more than its bytes: the 16 bytes of the run's token,
which a stranger does not know, the length of the header (4 bytes, little endian), 4 zero bytes, the
header, zero bytes up to a multiple of 16, and the payload. Header and payload are those of
`docs/wire-format.md`.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import zmq

from stream.errors import WireError
from stream.node import StreamSpec
from stream.packet import HEADER_LIMIT_BYTES, Packet, encode_header
from stream.plan import Link
from stream.runtime.addresses import bind_private
from stream.runtime.shared_memory import LARGE_BYTES

TOKEN_BYTES = 16
HELLO_KIND = "hello"
KNOCK_KIND = "knock"
ALIGNMENT = 16
PREFIX = struct.Struct("<16sII")
_WINDOW = 256
_LARGE_WINDOW = 8


def window(link: Link, spec: StreamSpec) -> int:
    """Return how many packets of a link may be on their way at once."""
    if link.delivery.policy == "latest":
        return 1
    if link.delivery.policy == "queue":
        return link.delivery.depth
    return _LARGE_WINDOW if fixed_bytes(spec) >= LARGE_BYTES else _WINDOW


def fixed_bytes(spec: StreamSpec) -> int:
    """Return the size of a stream's arrays, 0 when it varies."""
    size = np.dtype(spec.dtype).itemsize
    for extent in spec.shape:
        size *= extent or 0
    return size


def pack(token: bytes, packet: Packet, sent_ns: int, shared: dict[str, Any] | None = None) -> bytes:
    """Return the message of a packet; with `shared`, its payload lies elsewhere.

    Raises
    ------
    WireError
        The packet cannot be sent: its dtype is not allowed, or its header is too large.
    """
    header = encode_header(packet, sent_ns, shared)
    length = len(header)
    if length > HEADER_LIMIT_BYTES:
        raise WireError(f"its header would have {length} bytes, the limit is {HEADER_LIMIT_BYTES}")
    padding = bytes(-(PREFIX.size + length) % ALIGNMENT)
    payload = packet.data.tobytes() if shared is None else b""
    return b"".join((PREFIX.pack(token, length, 0), header, padding, payload))


def make_sockets(
    context: zmq.Context[Any], inwards: str, outwards: str, *, limit_bytes: int
) -> tuple[zmq.Socket[Any], zmq.Socket[Any]]:
    """Bind the socket of one end of a link for what comes in, connect the one for what goes out.

    Neither has a limit on messages of its own: credits bound what is in it. ZeroMQ gives room back
    late, in batches, so that its own limit would refuse what has credit.
    """
    pull, push = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    pull.setsockopt(zmq.RCVHWM, 0)
    pull.setsockopt(zmq.MAXMSGSIZE, limit_bytes)
    bind_private(pull, inwards)
    push.setsockopt(zmq.SNDHWM, 0)
    push.connect(outwards)
    return pull, push
