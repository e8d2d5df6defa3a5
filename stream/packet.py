"""The packet: a header and one array. `docs/wire-format.md` describes it for other languages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.errors import WireError

FORMAT_VERSION = 1
KINDS = (
    "spikes", "counts", "rates", "behaviour", "frame", "keypoints", "skeleton", "probabilities",
    "action", "keyboard", "strip", "keys", "notes", "graph", "samples", "trigger", "levels",
    "markers",
)  # fmt: skip
"""The kinds of packets that nodes of this project make; a node of one's own may have others."""

END_KIND = "end"
HEADER_LIMIT_BYTES = 64 * 1024
PAYLOAD_LIMIT_BYTES = 256 * 1024 * 1024
_DTYPES = frozenset(
    np.dtype(name).str
    for name in ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8", "?")
)


# Sums and differences of what a stranger may claim have to fit into 64 bits, in files too.
_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**48)]
_Ns = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]


class Header(msgspec.Struct, kw_only=True):
    """What a packet says of itself. It travels as one msgpack map with these keys.

    Attributes
    ----------
    v
        Version of this format.
    kind
        What the array is: one of `KINDS`, `END_KIND`, or a kind of somebody's own.
    seq
        Number of the packet in its stream, from 0, rising by one for every packet emitted. A jump
        means loss between the emitter and here.
    gap
        Packets known to be missing just before this one because they could not be made (refused
        input, loss further up). They have no `seq` of their own.
    t_ns
        Host time (`time.monotonic_ns`) of acquisition of the newest sample in here. A source sets
        it once; whatever is derived carries it on.
    source_ns, source_end_ns
        What the packet covers on the clock of the source, half open, in ns. A single sample has
        both equal. For spikes and counts, `source_end_ns` promises that nothing earlier follows.
    segment
        Number of the stretch of contiguous time that this belongs to. When it changes, state of
        whatever reads the stream starts afresh.
    sent_ns
        Host time at which the packet left its last node. Set by the link.
    dtype, shape
        Of the payload: a numpy type string, little endian, C order.
    shared
        Where the payload lies, when it is in shared memory instead of in the message. Only
        between processes of one run; what leaves a run always carries its payload.
    meta
        What the kind needs beyond that. Small.
    """

    kind: str
    seq: _Number
    t_ns: _Ns
    source_ns: _Ns
    source_end_ns: _Ns
    dtype: str
    shape: tuple[int, ...]
    segment: _Number = 0
    gap: _Number = 0
    sent_ns: _Ns = 0
    shared: dict[str, Any] | None = None
    meta: dict[str, Any] = {}
    v: int = FORMAT_VERSION


class Packet(msgspec.Struct):
    """One item of a stream, as nodes see it.

    Attributes
    ----------
    data
        The array. Treat it as read only: other nodes may see the same memory.
    kind, t_ns, source_ns, source_end_ns, segment, gap, seq, meta
        As in `Header`. A node leaves `seq` at 0: the runtime numbers what it emits.
    output
        Which of its node's outputs the packet is for; empty for the main one.
    """

    kind: str
    data: NDArray[Any]
    t_ns: int
    source_ns: int
    source_end_ns: int
    segment: int = 0
    gap: int = 0
    seq: int = 0
    output: str = ""
    meta: dict[str, Any] = {}

    def derive(
        self, kind: str, data: NDArray[Any], *, output: str = "", meta: dict[str, Any] | None = None
    ) -> Packet:
        """Make a packet computed from this one: same times, segment and gap."""
        return Packet(
            kind=kind, data=data, t_ns=self.t_ns, source_ns=self.source_ns,
            source_end_ns=self.source_end_ns, segment=self.segment, gap=self.gap,
            output=output, meta=meta or {},
        )  # fmt: skip


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def encode(stream: str, packet: Packet, sent_ns: int) -> list[bytes | memoryview]:
    """Return the three frames of a packet: stream name, header, payload (not copied).

    Raises
    ------
    WireError
        The array is of a dtype that no packet may have.
    """
    data = np.asarray(packet.data, order="C")
    return [stream.encode(), encode_header(packet, sent_ns), data.reshape(-1).view(np.uint8).data]


def encode_header(packet: Packet, sent_ns: int, shared: dict[str, Any] | None = None) -> bytes:
    """Return the header of a packet; `shared` says where its array lies, if not in the message.

    Raises
    ------
    WireError
        The array is of a dtype that no packet may have.
    """
    data = packet.data
    dtype = data.dtype.str
    if dtype not in _DTYPES:
        raise WireError(f"an array of dtype '{data.dtype}' cannot be sent")
    return _encoder.encode(
        Header(
            kind=packet.kind, seq=packet.seq, t_ns=packet.t_ns, source_ns=packet.source_ns,
            source_end_ns=packet.source_end_ns, dtype=dtype, shape=data.shape,
            segment=packet.segment, gap=packet.gap, sent_ns=sent_ns, shared=shared,
            meta=packet.meta,
        )
    )  # fmt: skip


def end_packet(seq: int, now_ns: int) -> Packet:
    """Return the packet that ends a stream of `seq` packets."""
    return Packet(END_KIND, np.empty(0, np.uint8), now_ns, 0, 0, seq=seq)


def encode_end(stream: str, seq: int, sent_ns: int) -> list[bytes | memoryview]:
    """Return the three frames that end a stream of `seq` packets."""
    return encode(stream, end_packet(seq, sent_ns), sent_ns)


def decode_header(frame: bytes | memoryview) -> Header:
    """Read and check a header that came over a socket.

    Raises
    ------
    WireError
        It is too large, no msgpack, lacks a key, is of another version, or holds a number, a dtype
        or a shape that no packet has.
    """
    if len(frame) > HEADER_LIMIT_BYTES:
        raise WireError(
            f"a header of {len(frame)} bytes came in, the limit is {HEADER_LIMIT_BYTES}"
        )
    try:
        header = _decoder.decode(frame)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"a header came in that is not one of ours ({error})") from None
    if header.v != FORMAT_VERSION:
        raise WireError(f"a packet of format {header.v} came in, this is format {FORMAT_VERSION}")
    payload_bytes(header)
    return header


def payload_bytes(header: Header) -> int:
    """Return the size of the payload that a header announces.

    Raises
    ------
    WireError
        No packet has that dtype or shape.
    """
    return _payload_bytes(header.dtype, header.shape)


@lru_cache(maxsize=1024)
def _payload_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    if dtype not in _DTYPES:
        raise WireError(f"a packet of dtype {dtype[:20]!r} came in, which is not allowed")
    if len(shape) > 8 or any(size < 0 for size in shape):
        raise WireError(f"a packet of shape {shape[:9]} came in")
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size > PAYLOAD_LIMIT_BYTES:
        raise WireError(f"a packet of {size} bytes came in, the limit is {PAYLOAD_LIMIT_BYTES}")
    return size


def to_packet(header: Header, payload: bytes | memoryview) -> Packet:
    """Join a checked header and its payload into a packet, without copying the payload.

    Raises
    ------
    WireError
        The payload has another size than the header says.
    """
    if len(payload) != payload_bytes(header):
        raise WireError(
            f"a payload of {len(payload)} bytes came with a header that says"
            f" {payload_bytes(header)}"
        )
    return with_data(header, np.frombuffer(payload, dtype=header.dtype).reshape(header.shape))


def with_data(header: Header, data: NDArray[Any]) -> Packet:
    """Join a header and its array, wherever that lies, into a packet."""
    return Packet(
        kind=header.kind, data=data, t_ns=header.t_ns, source_ns=header.source_ns,
        source_end_ns=header.source_end_ns, segment=header.segment, gap=header.gap,
        seq=header.seq, meta=header.meta,
    )  # fmt: skip


def decode(frames: Sequence[bytes | memoryview]) -> tuple[str, Packet]:
    """Read the three frames of a packet; see `encode`.

    Raises
    ------
    WireError
        These are not the frames of a packet.
    """
    if len(frames) != 3:
        raise WireError(f"a message of {len(frames)} frames came in, a packet has 3")
    try:
        stream = bytes(frames[0][:256]).decode()
    except UnicodeDecodeError:
        raise WireError("a message came in whose stream name is not text") from None
    return stream, to_packet(decode_header(frames[1]), frames[2])
