"""A subscription to a plugin of Open Ephys, which comes back by itself when it was lost."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from stream.errors import ConfigError

_WAITING = 65_536
"""Messages that may wait: 4 s of 384 channels, where the 1000 of ZeroMQ hold 60 ms."""
_FRAME_LIMIT_BYTES = 16 * 2**20
_FRAMES_LIMIT = 8
_AGAIN_MS = 100
_GIVE_UP_MS = 500
_PING_MS = 1000
_DEAD_MS = 3000
_AFRESH_NS = 700_000_000


class Subscription:
    """Receives whatever a plugin publishes, at `tcp://HOST:PORT`.

    The thread of ZeroMQ takes messages off the network and lets them wait here, so that the sender
    does not meet a full queue while a node is busy. Where nothing answers, it is tried again ten
    times a second; a peer that is unreachable, or silent to pings for 3 s, counts as gone. After a
    breach of its protocol, such as too large a message, ZeroMQ does not try again: `watch` does.

    Attributes
    ----------
    connected
        Whether a publisher is at the other end. `watch` brings it up to date.
    alien
        Whether something answered that is no publisher.
    lost
        How often a connection ended, for being too large a message, too.
    """

    def __init__(self, host: str, port: int) -> None:
        self.address = f"tcp://{host}:{port}"
        self.connected = False
        self.alien = False
        self.lost = 0
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[Any] = self._context.socket(zmq.SUB)
        socket = self._socket
        socket.linger = 0
        socket.rcvhwm = _WAITING
        socket.setsockopt(zmq.MAXMSGSIZE, _FRAME_LIMIT_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL, _AGAIN_MS)
        # Without it, an attempt into an unplugged cable is in the way for minutes.
        socket.setsockopt(zmq.CONNECT_TIMEOUT, _GIVE_UP_MS)
        socket.setsockopt(zmq.HEARTBEAT_IVL, _PING_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _DEAD_MS)
        socket.subscribe(b"")
        self._monitor = socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        self._monitor.linger = 0
        self._again_ns = time.monotonic_ns() + _AFRESH_NS
        try:
            socket.connect(self.address)
        except zmq.ZMQError:
            self.close()
            raise ConfigError(
                f"'{host}' is no host: write a name or an address, without port or 'tcp://'."
            ) from None

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when messages come after `receive` had none."""
        return int(self._socket.getsockopt(zmq.FD))

    @property
    def waiting(self) -> bool:
        """Whether there is something to receive."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def receive(self) -> list[bytes] | None:
        """Return the frames of the next message, at most 8; None when nothing waits."""
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK)[:_FRAMES_LIMIT]
        except zmq.Again:
            return None

    def discard(self) -> None:
        """Throw away what has waited up to now."""
        for _ in range(_WAITING):
            if self.receive() is None:
                return

    def poll(self, timeout_s: float) -> None:
        """Sleep until something comes, at most so long."""
        self._socket.poll(max(0, round(timeout_s * 1000)))

    def watch(self) -> None:
        """Learn what has become of the connection, and make a new one when it is gone for good."""
        with contextlib.suppress(zmq.Again):
            while True:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)["event"]
                if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self.connected = True
                else:
                    # Who hangs up without having shaken hands is no publisher.
                    self.alien |= not self.connected
                    self.lost += self.connected
                    self.connected = False
        now_ns = time.monotonic_ns()
        if self.connected:
            self._again_ns = now_ns + _AFRESH_NS
        elif now_ns >= self._again_ns:
            self._again_ns = now_ns + _AFRESH_NS
            with contextlib.suppress(zmq.ZMQError):
                self._socket.disconnect(self.address)
            self._socket.connect(self.address)

    def close(self) -> None:
        """Release the sockets."""
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close()
        self._context.term()
