"""Links between groups: how packets get from one process to another.

A link has two one-way pairs of sockets. The receiver binds the one for packets, the sender the one
for what comes back, and each connects to the other's, so that a stranger who connects can steal
nothing. What comes back are credits, and slots of shared memory that are free again. A sender has
as many packets on their way as it has credits, so nothing ever waits in buffers that nobody counts:
without credit a lossless link waits, and the other two keep the newest packets and drop the oldest.

The first message of a link has the kind `hello`, the last one `end`.

A packet that comes after a pause finds four threads asleep and their code out of the caches, which
costs several times what the packet itself does. A sender that knows when it will have something to
send therefore knocks shortly before: a message of the kind `knock` takes the way of the packet and
ends where that would be handed out.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import zmq
from numpy.typing import NDArray

from stream.errors import WireError
from stream.node import StreamSpec
from stream.packet import (
    END_KIND,
    HEADER_LIMIT_BYTES,
    PAYLOAD_LIMIT_BYTES,
    Packet,
    decode_header,
    end_packet,
    payload_bytes,
    with_data,
)
from stream.plan import Link
from stream.runtime.clock import readable
from stream.runtime.latency import Latency
from stream.runtime.link_messages import (
    ALIGNMENT,
    HELLO_KIND,
    KNOCK_KIND,
    PREFIX,
    TOKEN_BYTES,
    make_sockets,
    pack,
    window,
)
from stream.runtime.shared_memory import SlotReader
from stream.units import to_ns

_LINGER_MS = 5000
_LOGGED_REFUSALS = 20
# Messages read at a time, so that a stranger who never stops cannot keep a worker from its loop.
_TURN = 1024
_BACK_LIMIT_BYTES = 64 * 1024
# A way that was taken less than this ago is still awake.
_AWAKE_NS = 2_000_000
# Knocks cost no credit; so many between two packets keep what is on its way bounded.
_KNOCKS = 4

_log = logging.getLogger(__name__)
_returns = msgspec.msgpack.Decoder(tuple[int, list[int]])
_encode = msgspec.msgpack.Encoder().encode


class Sender:
    """The end of a link at which packets go in.

    Attributes
    ----------
    connected
        Whether the receiver has answered.
    sent, dropped
        Packets that went out, and packets that were dropped here.
    back
        Becomes readable when something comes back; call `pump` then.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        *,
        link: Link,
        spec: StreamSpec,
        token: bytes,
        release: Callable[[int], None],
    ) -> None:
        self.link = link
        self.connected = False
        self.ended = False
        self.lost = False
        self.sent = 0
        self.dropped = 0
        self._token = token
        self._credit = window(link, spec)
        self._lossless = link.delivery.policy == "lossless"
        self._depth = link.delivery.depth
        self._waiting: deque[tuple[bytes, int | None]] = deque()
        self._end: bytes | None = None
        self._release = release
        self._sent_ns = 0
        self._knocks = 0
        self.back, self._socket = make_sockets(
            context, f"{address}-back", address, limit_bytes=_BACK_LIMIT_BYTES
        )
        self._say(HELLO_KIND)

    @property
    def flushed(self) -> bool:
        """Whether nothing is left to send."""
        return self.lost or (self.ended and self._end is None)

    def offer(self, message: bytes, slot: int | None) -> bool:
        """Send a packet, or keep it, or drop it as the link's policy says.

        False means that a lossless link has no credit: wait for `back`, then offer again.
        """
        if not self._credit:
            self.pump()
        if self.lost:
            self._drop(slot)
        elif self._credit:
            self._send(message)
        elif self._lossless:
            return False
        else:
            self._waiting.append((message, slot))
            if len(self._waiting) > self._depth:
                self._drop(self._waiting.popleft()[1])
        return True

    def knock(self) -> None:
        """Wake what lies between here and the receiving node, if it has had time to fall asleep."""
        now_ns = time.monotonic_ns()
        if self._credit and self._knocks < _KNOCKS and now_ns - self._sent_ns > _AWAKE_NS:
            self._sent_ns = now_ns
            self._knocks += 1
            self._say(KNOCK_KIND)

    def pump(self) -> None:
        """Take what the receiver gave back, and send what waited for it."""
        for _ in range(_TURN):
            if not readable(self.back):
                break
            message = self.back.recv(zmq.NOBLOCK)
            try:
                if not message.startswith(self._token):
                    raise WireError("it is not from this run")
                credits, slots = _returns.decode(memoryview(message)[TOKEN_BYTES:])
            except (WireError, msgspec.MsgspecError) as error:
                _log.warning("%s: refused a message on its way back: %s", self.link.name, error)
                continue
            self.connected = True
            self._credit += credits
            for slot in slots:
                self._release(slot)
        while self._waiting and self._credit:
            self._send(self._waiting.popleft()[0])
        if self._end is not None and not self._waiting:
            self._socket.send(self._end, zmq.NOBLOCK)
            self._end = None

    def end(self, seq: int, now_ns: int) -> None:
        """End the stream, after what still waits. `seq` is how many packets it had."""
        if not self.ended:
            self.ended = True
            self._end = pack(self._token, end_packet(seq, now_ns), now_ns)
            self.pump()

    def abandon(self) -> None:
        """Drop what waits and what will come: the receiver is gone."""
        self.lost = True
        while self._waiting:
            self._drop(self._waiting.popleft()[1])

    def close(self) -> None:
        """Close the sockets. What was sent still goes out, unless the receiver is gone."""
        self.back.close(linger=0)
        self._socket.close(linger=0 if self.lost else _LINGER_MS)

    def _send(self, message: bytes) -> None:
        self._socket.send(message, zmq.NOBLOCK)
        self._credit -= 1
        self.sent += 1
        self._knocks = 0
        self._sent_ns = time.monotonic_ns()

    def _say(self, kind: str) -> None:
        """Send a message that is no packet of the stream."""
        nothing = Packet(kind, np.empty(0, np.uint8), 0, 0, 0)
        self._socket.send(pack(self._token, nothing, 0), zmq.NOBLOCK)

    def _drop(self, slot: int | None) -> None:
        self.dropped += 1
        if slot is not None:
            self._release(slot)


class Receiver:
    """The end of a link at which packets come out.

    Attributes
    ----------
    connected, lossless
        Whether the sender has said hello; whether the link waits rather than drops.
    packets, dropped, refused
        Packets handed out; packets dropped here because newer ones came or because they were too
        old; messages that are none of ours.
    missing
        Packets of the stream that never came in here. Those that the sender dropped are among them.
    latency
        From when the packet left its node to when it was handed out.
    socket
        Becomes readable when something comes in; call `next` then.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        *,
        link: Link,
        spec: StreamSpec,
        token: bytes,
        shared_fd: int | None,
    ) -> None:
        self.link = link
        self.connected = False
        self.packets = 0
        self.dropped = 0
        self.refused = 0
        self.missing = 0
        self.latency = Latency()
        self._token = token
        self._seq = 0
        self._last = False
        self._queue: deque[tuple[int, Packet]] = deque()
        self._credits = 0
        self._took_ns: int | None = None
        policy = link.delivery.policy
        # A queue gives room as soon as it has taken a packet, since it may drop it for a newer one.
        # `latest` asks only when its node is free: what waits at the sender is then the newest.
        self.lossless = policy == "lossless"
        self._queued = policy == "queue"
        self._depth = link.delivery.depth
        # Whoever gets room packet by packet is woken for each; `latest` has only one on its way.
        self._batch = max(1, window(link, spec) // 4)
        # All that can be on its way, with room for what strangers send.
        self._most = (1 + _KNOCKS) * window(link, spec) + _TURN
        age_s = link.delivery.max_age_s
        self._max_age_ns = None if age_s is None else to_ns(age_s)
        self._slots = None if shared_fd is None else SlotReader(shared_fd)
        limit_bytes = PAYLOAD_LIMIT_BYTES + 2 * HEADER_LIMIT_BYTES
        self.socket, self._back = make_sockets(
            context, address, f"{address}-back", limit_bytes=limit_bytes
        )

    @property
    def ended(self) -> bool:
        """Whether the sender has ended and all that it sent has been taken."""
        return self._last and not self._queue

    def next(self) -> Packet | None:
        """Return the next packet, if there is one. Call `done` when its node is done with it."""
        queue = self._queue
        # A queue looks at all that came, to drop what is old; the others take one at a time.
        for _ in range(_TURN):
            if (queue and not self._queued) or (message := self._receive()) is None:
                break
            self._take_in(message)
        while queue:
            sent_ns, packet = queue.popleft()
            now_ns = time.monotonic_ns()
            if self._max_age_ns is not None and now_ns - packet.t_ns > self._max_age_ns:
                self.dropped += 1
                self._credits += not self._queued
                continue
            self._took_ns = now_ns - sent_ns
            return packet
        return None

    def done(self) -> None:
        """Count the packet that was taken, and give the sender room for one more."""
        if self._took_ns is not None:
            self.packets += 1
            self.latency.add(self._took_ns)
            self._took_ns = None
            self._credits += not self._queued

    def greet(self) -> None:
        """Wait for the sender's hello and answer it, so that both know that the link works."""
        if not self.connected:
            self._take_all()
            if self.connected:
                self._send_back(())

    def give_back(self) -> None:
        """Send credits and slots back to the sender when enough of them have come together."""
        slots = self._slots.returned if self._slots is not None else ()
        if self._credits >= self._batch or slots:
            self._send_back(slots)
            if self._slots is not None:
                self._slots.returned = []

    def abandon(self) -> None:
        """End the link after what has arrived: the sender is gone."""
        self._take_all()
        self._last = True

    def close(self) -> None:
        """Close the sockets."""
        self.socket.close(linger=0)
        self._back.close(linger=0)

    def _send_back(self, slots: Sequence[int]) -> None:
        self._back.send(self._token + _encode((self._credits, slots)), zmq.NOBLOCK)
        self._credits = 0

    def _take_all(self) -> None:
        for _ in range(self._most):
            if (message := self._receive()) is None:
                break
            self._take_in(message)

    def _receive(self) -> bytes | None:
        # One call where there is a message, which is when it matters.
        try:
            return self.socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def _take_in(self, message: bytes) -> None:
        try:
            if not message.startswith(self._token):
                raise WireError("it is not from this run")
            try:
                self._take_packet(message)
            except WireError:
                # Refused or not, it used up one of the sender's credits.
                self._credits += 1
                raise
        except WireError as error:
            self.refused += 1
            if self.refused <= _LOGGED_REFUSALS:
                _log.warning("%s: refused a message: %s", self.link.name, error)

    def _take_packet(self, message: bytes) -> None:
        if len(message) < PREFIX.size:
            raise WireError("it is too short")
        end = PREFIX.size + PREFIX.unpack_from(message)[1]
        header = decode_header(memoryview(message)[PREFIX.size : end])
        kind, seq = header.kind, header.seq
        if kind == HELLO_KIND:
            self.connected = True
            return
        if kind == KNOCK_KIND:
            return
        if seq < self._seq or self._last:
            raise WireError(f"packet {seq} came when {self._seq} was next")
        if header.shared is None:
            start = end + -end % ALIGNMENT
            if len(message) != start + payload_bytes(header):
                raise WireError("its payload is not as long as its header says")
            data: NDArray[Any] = np.ndarray(header.shape, header.dtype, message, start)
        elif self._slots is not None:
            data = self._slots.view(header.shared, header.dtype, header.shape)
        else:
            raise WireError("its array is in shared memory that this link does not have")
        self.missing += seq - self._seq
        if kind == END_KIND:
            self._seq = seq
            self._last = True
            return
        self._seq = seq + 1
        self._queue.append((header.sent_ns, with_data(header, data)))
        if self._queued:
            self._credits += 1
            if len(self._queue) > self._depth:
                self._queue.popleft()
                self.dropped += 1
