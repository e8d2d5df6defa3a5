"""Links between groups: how packets get from one process to another.

The receiver binds a ROUTER socket, the sender connects a DEALER, so that a stranger who connects
can steal nothing. Messages of a link, sender to receiver: two frames `hello` and the token of the
run, once; three frames for each packet (`docs/wire-format.md`); an `end` packet. Receiver to
sender: one msgpack array of a number of credits and a list of slots of shared memory. A sender has
as many packets on their way as it has credits, so nothing ever waits in buffers that nobody counts:
without credit a lossless link waits, and the other two keep the newest packets and drop the oldest.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import zmq

from stream.errors import WireError
from stream.node import StreamSpec
from stream.packet import END_KIND, Packet, decode_header, encode_end, to_packet, with_data
from stream.plan import Link
from stream.runtime.addresses import bind_private
from stream.runtime.latency import Latency
from stream.runtime.shared_memory import LARGE_BYTES, SlotReader
from stream.units import to_ns

HELLO = b"hello"
_WINDOW = 256
_LARGE_WINDOW = 8
_MESSAGES_A_TURN = 1024
_LOGGED_REFUSALS = 20

_log = logging.getLogger(__name__)
_returns = msgspec.msgpack.Decoder(tuple[int, list[int]])
_encode = msgspec.msgpack.Encoder().encode


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


class Sender:
    """The end of a link at which packets go in.

    Attributes
    ----------
    connected
        Whether the receiver has answered.
    sent, dropped
        Packets that went out, and packets that were dropped here.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        *,
        link: Link,
        spec: StreamSpec,
        token: str,
        release: Callable[[int], None],
    ) -> None:
        self.link = link
        self.connected = False
        self.ended = False
        self.lost = False
        self.sent = 0
        self.dropped = 0
        self._credit = window(link, spec)
        self._lossless = link.delivery.policy == "lossless"
        self._depth = link.delivery.depth
        self._waiting: deque[tuple[list[bytes], int | None]] = deque()
        self._end: list[bytes | memoryview] | None = None
        self._release = release
        self.socket: zmq.Socket[Any] = context.socket(zmq.DEALER)
        # Credits bound what is in here; a limit of ZeroMQ's own is given back late, in batches.
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.connect(address)
        self.socket.send_multipart([HELLO, token.encode()])

    @property
    def flushed(self) -> bool:
        """Whether nothing is left to send."""
        return self.lost or (self.ended and self._end is None)

    def offer(self, frames: list[Any], slot: int | None) -> bool:
        """Send a packet, or keep it, or drop it as the link's policy says.

        False means that a lossless link has no credit: wait for `socket`, then offer again.
        """
        if self._credit == 0:
            self.pump()
        if self.lost:
            self._drop(slot)
        elif self._credit:
            self._send(frames)
        elif self._lossless:
            return False
        else:
            # Kept for later: the node may write its next array into the same memory.
            self._waiting.append(([bytes(frame) for frame in frames], slot))
            if len(self._waiting) > self._depth:
                self._drop(self._waiting.popleft()[1])
        return True

    def pump(self) -> None:
        """Take what the receiver gave back, and send what waited for it."""
        while True:
            try:
                message = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            credits, slots = _returns.decode(message)
            self.connected = True
            self._credit += credits
            for slot in slots:
                self._release(slot)
        while self._waiting and self._credit:
            self._send(self._waiting.popleft()[0])
        if self._end is not None and not self._waiting:
            self.socket.send_multipart(self._end, zmq.NOBLOCK)
            self._end = None

    def end(self, seq: int, now_ns: int) -> None:
        """End the stream, after what still waits. `seq` is how many packets it had."""
        if not self.ended:
            self.ended = True
            self._end = encode_end(self.link.stream, seq, now_ns)
            self.pump()

    def abandon(self) -> None:
        """Drop what waits and what will come: the receiver is gone."""
        self.lost = True
        while self._waiting:
            self._drop(self._waiting.popleft()[1])

    def close(self) -> None:
        """Close the socket. What was sent still goes out, unless the receiver is gone."""
        self.socket.close(linger=0 if self.lost else 5000)

    def _send(self, frames: list[Any]) -> None:
        self.socket.send_multipart(frames, zmq.NOBLOCK)
        self._credit -= 1
        self.sent += 1

    def _drop(self, slot: int | None) -> None:
        self.dropped += 1
        if slot is not None:
            self._release(slot)


class Receiver:
    """The end of a link at which packets come out.

    Attributes
    ----------
    connected
        Whether the sender has said hello.
    packets, dropped, refused
        Packets handed out; packets dropped here because newer ones came or because they were too
        old; messages that are none of ours.
    missing
        Packets of the stream that never came in here. Those that the sender dropped are among them.
    latency
        From when the packet left its node to when it was handed out.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        *,
        link: Link,
        spec: StreamSpec,
        token: str,
        shared_fd: int | None,
    ) -> None:
        self.link = link
        self.connected = False
        self.packets = 0
        self.dropped = 0
        self.refused = 0
        self.missing = 0
        self.latency = Latency()
        self._stream = link.stream.encode()
        self._hello = [HELLO, token.encode()]
        self._peer: bytes | None = None
        self._seq = 0
        self._last = False
        self._queue: deque[tuple[int, Packet]] = deque()
        self._credits = 0
        policy = link.delivery.policy
        # A queue gives room as soon as it has taken a packet, since it may drop it for a newer one.
        # `latest` asks only when its node is free: what waits at the sender is then the newest.
        self._grant_on_arrival = policy == "queue"
        self._depth = link.delivery.depth if policy == "queue" else None
        self._batch = max(1, window(link, spec) // 4) if policy == "lossless" else 1
        age_s = link.delivery.max_age_s
        self._max_age_ns = None if age_s is None else to_ns(age_s)
        self._slots = None if shared_fd is None else SlotReader(shared_fd)
        self.socket: zmq.Socket[Any] = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.SNDHWM, 0)
        self.socket.setsockopt(zmq.RCVHWM, window(link, spec) + 8)
        self.socket.setsockopt(zmq.LINGER, 0)
        bind_private(self.socket, address)

    @property
    def ended(self) -> bool:
        """Whether the sender has ended and all that it sent has been taken."""
        return self._last and not self._queue

    @property
    def waiting(self) -> bool:
        """Whether a packet is there to be taken."""
        return bool(self._queue)

    def drain(self) -> None:
        """Take in everything that has arrived."""
        for _ in range(_MESSAGES_A_TURN):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._take_in(frames)
            except WireError as error:
                self.refused += 1
                if self.refused <= _LOGGED_REFUSALS:
                    _log.warning("%s: refused a message: %s", self.link.name, error)

    def pop(self, now_ns: int) -> Packet | None:
        """Hand out the next packet, if there is one. Call `taken` when its node is done with it."""
        while self._queue:
            sent_ns, packet = self._queue.popleft()
            if self._max_age_ns is not None and now_ns - packet.t_ns > self._max_age_ns:
                self.dropped += 1
                self.taken()
                continue
            self.packets += 1
            self.latency.add(now_ns - sent_ns)
            return packet
        return None

    def taken(self) -> None:
        """Give the sender room for one more packet."""
        if not self._grant_on_arrival:
            self._credits += 1

    def give_back(self) -> None:
        """Send credits and slots back to the sender when enough of them have come together."""
        slots = self._slots.returned if self._slots is not None else ()
        if (self._credits >= self._batch or slots) and self._peer is not None:
            self.socket.send_multipart([self._peer, _encode((self._credits, slots))])
            self._credits = 0
            if self._slots is not None:
                self._slots.returned = []

    def abandon(self) -> None:
        """End the link after what has arrived: the sender is gone."""
        self.drain()
        self._last = True

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def _take_in(self, frames: list[bytes]) -> None:
        peer, *message = frames
        if message == self._hello and self._peer is None:
            self._peer = peer
            self.connected = True
            self.socket.send_multipart([peer, _encode((0, ()))])
            return
        if peer != self._peer:
            raise WireError("it is not from the sender of this link")
        try:
            self._take_packet(message)
        except WireError:
            # Refused or not, it used up one of the sender's credits.
            self._credits += 1
            raise

    def _take_packet(self, message: list[bytes]) -> None:
        if len(message) != 3 or message[0] != self._stream:
            raise WireError(f"it is not a packet of '{self.link.stream}'")
        header = decode_header(message[1])
        if self._last or header.seq < self._seq:
            raise WireError(f"packet {header.seq} came when {self._seq} was next")
        if header.shared is None:
            packet = to_packet(header, message[2])
        elif self._slots is not None:
            packet = with_data(header, self._slots.view(header.shared, header.dtype, header.shape))
        else:
            raise WireError("its array is in shared memory that this link does not have")
        self.missing += header.seq - self._seq
        self._seq = header.seq
        if header.kind == END_KIND:
            self._last = True
            return
        self._seq += 1
        self._queue.append((header.sent_ns, packet))
        if self._grant_on_arrival:
            self._credits += 1
        if self._depth is not None and len(self._queue) > self._depth:
            self._queue.popleft()
            self.dropped += 1
