"""Threads that bring the messages of a feed: by UDP, ZeroMQ or WebSocket."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import zmq
from zmq.utils.monitor import recv_monitor_message

from stream.errors import ConfigError, MissingExtraError
from stream.instruments.arrivals import Arrivals
from stream.instruments.feeds.message import LARGEST_BYTES
from stream.instruments.reader import PAUSE_S, Reader
from stream.instruments.spike_flow import QUIET_NS
from stream.instruments.udp import UdpListener

_LOOK_S = 0.05
_WAITING = 10_000
_WAITING_BYTES = 256 * 1024 * 1024
# A program that was started again sends from another port; another one beside it keeps sending.
_TAKE_OVER_NS = 1_000_000_000


class Came(NamedTuple):
    """A message, or the place where the connection was lost, or that nothing waited.

    Attributes
    ----------
    arrived_ns
        When, on the host clock.
    frames
        Its parts, of which only ZeroMQ has more than one. None where the connection was lost; no
        parts where all that had arrived by then was handed on.
    """

    arrived_ns: int
    frames: list[bytes] | None


class FeedReader(Reader):
    """What the three have in common.

    Attributes
    ----------
    tells_silence
        Whether to hand on, now and then, that nothing waits.
    """

    tells_silence = False

    def __init__(self, address: str, arrivals: Arrivals[Came]) -> None:
        super().__init__(address)
        self.address = address
        self._arrivals = arrivals
        self._emptied_ns = 0
        # Each is changed by one thread only.
        self._put_bytes = self._taken_bytes = 0

    def put(self, arrived_ns: int, frames: list[bytes]) -> None:
        """Hand a message on."""
        size = sum(map(len, frames))
        full = self._put_bytes - self._taken_bytes + size > _WAITING_BYTES
        if full or not self._arrivals.put(Came(arrived_ns, frames)):
            self.lose("overrun")
        else:
            self._put_bytes += size

    def taken(self, came: Came) -> None:
        """Learn that a message does not wait any more."""
        self._taken_bytes += sum(map(len, came.frames or ()))

    def emptied(self, at_ns: int) -> float:
        """Hand on that nothing waited at `at_ns`; return how long to wait for something."""
        if not self.tells_silence:
            return _LOOK_S
        if at_ns - self._emptied_ns >= QUIET_NS:
            self._emptied_ns = at_ns
            self._arrivals.put(Came(at_ns, []))
        return QUIET_NS / 1e9

    def on_lost(self) -> None:
        """Mark the place where the connection was lost."""
        self._arrivals.put(Came(time.monotonic_ns(), None))


class UdpReader(FeedReader):
    """Listens for datagrams of one sender at a time."""

    _listener: UdpListener | None = None

    def connect(self) -> None:
        """Listen."""
        parts = urlsplit(self.address)
        self._listener = UdpListener(str(parts.hostname), parts.port or 0)
        self.port = self._listener.port

    def read(self) -> None:
        """Hand on datagrams; those of a second sender are refused while the first one sends."""
        assert self._listener is not None
        sender: tuple[str, int] | None = None
        heard_ns = overflowed = 0
        while not self.stopping.is_set():
            before_ns = time.monotonic_ns()
            if (received := self._listener.receive()) is None:
                self._listener.wait(self.emptied(before_ns))
                continue
            arrived_ns = time.monotonic_ns()
            data, whom = received
            if self._listener.overflowed != overflowed:
                self.lose("overflowed", self._listener.overflowed - overflowed)
                overflowed = self._listener.overflowed
            if whom != sender:
                if sender is not None and arrived_ns - heard_ns < _TAKE_OVER_NS:
                    self.lose("other_sender")
                    continue
                if sender is not None:
                    self.on_lost()
                sender = whom
            heard_ns = arrived_ns
            self.put(arrived_ns, [data])

    def disconnect(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None


class ZmqReader(FeedReader):
    """Subscribes to a publisher, which may come and go.

    Parameters
    ----------
    topic
        What messages have to begin with.
    largest_bytes
        Of a frame; a publisher that sends a larger one is cut off.
    curve
        Public key of the publisher, and public and secret key of this side; None without.
    """

    def __init__(
        self, address: str, arrivals: Arrivals[Came], topic: str = "",
        largest_bytes: int = LARGEST_BYTES, curve: tuple[bytes, bytes, bytes] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(address, arrivals)
        self._topic = topic
        self._largest = largest_bytes
        self._curve = curve
        self._zmq: zmq.Context[Any] | None = None

    def connect(self) -> None:
        """Subscribe; the publisher need not be there yet."""
        self._zmq = zmq.Context()
        socket = self._socket = self._zmq.socket(zmq.SUB)
        socket.linger = 0
        socket.rcvhwm = _WAITING
        socket.maxmsgsize = self._largest
        socket.reconnect_ivl = round(PAUSE_S * 1000)
        # A host that was unplugged says nothing at all.
        socket.heartbeat_ivl, socket.heartbeat_timeout = 500, 2000
        socket.ipv6 = "[" in self.address
        if self._curve is not None:
            socket.curve_serverkey, socket.curve_publickey, socket.curve_secretkey = self._curve
        self._monitor = socket.get_monitor_socket(zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED)
        socket.subscribe(self._topic)
        try:
            socket.connect(self.address)
        except zmq.ZMQError as error:
            self.disconnect()
            raise ConfigError(
                f"address: {self.address!r} cannot be connected to ({error.strerror})."
            ) from None

    def read(self) -> None:
        """Hand on messages, and mark where the publisher was lost."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        while not self.stopping.is_set():
            before_ns = time.monotonic_ns()
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
                self.put(time.monotonic_ns(), frames)
                continue
            except zmq.Again:
                wait_s = self.emptied(before_ns)
            ready = dict(poller.poll(round(wait_s * 1000)))
            if self._monitor in ready:
                self._watch(recv_monitor_message(self._monitor)["event"])

    def _watch(self, event: int) -> None:
        if event == zmq.EVENT_DISCONNECTED:
            self.outages += 1
            self.lost_ns = time.monotonic_ns()
            self.on_lost()
        else:
            self.lost_ns = None

    def disconnect(self) -> None:
        """Close the sockets."""
        if self._zmq is not None:
            self._socket.disable_monitor()
            self._socket.close()
            self._monitor.close()
            self._zmq.term()
            self._zmq = None


class WebSocketReader(FeedReader):
    """Connects to a WebSocket server, again and again when it is lost."""

    _held: ExitStack | None = None

    def connect(self) -> None:
        """Connect.

        Raises
        ------
        ConfigError
            Nothing answers there as a WebSocket server does.
        MissingExtraError
            The package is not installed.
        """
        try:
            from websockets.exceptions import WebSocketException
            from websockets.sync.client import connect
        except ImportError:
            raise MissingExtraError("A feed from a WebSocket", "websocket") from None
        self._held = ExitStack()
        try:
            connection = connect(
                self.address, max_size=LARGEST_BYTES, max_queue=64, open_timeout=2, close_timeout=1,
                ping_interval=1, ping_timeout=2, compression=None, proxy=None,
            )  # fmt: skip
            self._socket = self._held.enter_context(connection)
        except (OSError, WebSocketException) as error:
            raise ConfigError(
                f"address: no WebSocket server answers at {self.address} ({error})."
            ) from None

    def read(self) -> None:
        """Hand on messages until the server is lost."""
        from websockets.exceptions import ConnectionClosed

        wait_s = 0.0
        while not self.stopping.is_set():
            before_ns = time.monotonic_ns()
            try:
                data = self._socket.recv(wait_s)
            except TimeoutError:
                # What was seen to be empty after waiting may not have been so before.
                wait_s = 0.0 if wait_s else self.emptied(before_ns)
                continue
            except ConnectionClosed as error:
                if error.sent is not None and error.sent.code == 1009:
                    self.lose("too_large")
                raise ConfigError(f"{self.address} was closed ({error}).") from None
            frame = data.encode() if isinstance(data, str) else data
            self.put(time.monotonic_ns(), [frame])
            wait_s = 0.0

    def disconnect(self) -> None:
        """Close the connection."""
        if self._held is not None:
            self._held.close()
            self._held = None
