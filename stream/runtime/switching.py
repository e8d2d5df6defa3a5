"""Arming and disarming nodes of a run that goes on: what asks for it, and what hears that.

Whoever asks needs the token that the run has written into its folder, which only its user can read,
and has to be a process of that user. Arming also needs to be recent: `seen_ns` is when whoever asks
last saw the run, so that a wish which was held up on its way, by a connection that was lost or a
process that slept, arms nothing when it arrives after all.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

from stream.errors import RunError
from stream.runtime.addresses import bind_private
from stream.units import to_ns

RECENT_NS = to_ns(3.0)
"""A wish to arm is heard so long after its `seen_ns`; one to disarm always."""

_LIMIT_BYTES = 4096
_MOST_AT_ONCE = 32
_ANSWER_S = 3.0


class Wish(msgspec.Struct, tag=True):
    """Arm or disarm a node.

    Attributes
    ----------
    token
        That of the run.
    node, armed
        Which one, and what it shall be.
    by
        Who asks, for the logs.
    seen_ns
        When whoever asks last saw the run (`time.monotonic_ns`).
    """

    token: str
    node: str
    armed: bool
    by: str
    seen_ns: int


class Way(msgspec.Struct):
    """How to ask a run: ZeroMQ address and token."""

    address: str
    token: str


_read = msgspec.msgpack.Decoder(Wish).decode
_encode = msgspec.msgpack.Encoder().encode


class SwitchServer:
    """The supervisor's end: hears wishes, and answers each with a sentence, or nothing if granted.

    Parameters
    ----------
    context, way
        Where to listen, and for what token.
    grant
        Grants a wish, or returns why it cannot.
    refuse
        Is told of what was no wish of somebody who knows the token.

    Attributes
    ----------
    socket
        Becomes readable when somebody asks; call `serve` then.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        way: Way,
        grant: Callable[[Wish], str],
        refuse: Callable[[str], None],
    ) -> None:
        self._token = way.token
        self._grant = grant
        self._refuse = refuse
        self.socket: zmq.Socket[Any] = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.MAXMSGSIZE, _LIMIT_BYTES)
        bind_private(self.socket, way.address)

    def serve(self) -> None:
        """Hear what has come."""
        for _ in range(_MOST_AT_ONCE):
            try:
                message = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            self.socket.send_string(self._answer(message), zmq.NOBLOCK)

    def _answer(self, message: bytes) -> str:
        try:
            wish = _read(message)
        except msgspec.MsgspecError as error:
            self._refuse(f"what is no wish to arm or disarm ({type(error).__name__})")
            return "that is no wish to arm or disarm."
        if not hmac.compare_digest(wish.token.encode(), self._token.encode()):
            self._refuse("a wish to arm or disarm without the token of the run")
            return "that is not the token of this run."
        return self._grant(wish)

    def close(self) -> None:
        """Hear nothing any more."""
        self.socket.close()


class Switch:
    """The other end: asks, and reads answers when they are there.

    Parameters
    ----------
    way
        As the run announces it.
    by
        Who asks.
    """

    def __init__(self, way: Way, by: str) -> None:
        self._way = way
        self._by = by
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        # Unlike REQ it may ask again before it was answered.
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.sndhwm = _MOST_AT_ONCE
        self._socket.connect(way.address)

    def ask(self, node: str, armed: bool, seen_ns: int) -> bool:
        """Ask to arm or disarm a node, without waiting; False when the run takes no more wishes."""
        wish = Wish(self._way.token, node, armed, self._by, seen_ns)
        try:
            self._socket.send_multipart([b"", _encode(wish)], zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    @property
    def answered(self) -> bool:
        """Whether an answer is there."""
        return bool(self._socket.poll(0))

    def answer(self, timeout_s: float = _ANSWER_S) -> str:
        """Wait for the next answer: why a wish was not granted, nothing if it was.

        Raises
        ------
        RunError
            None came.
        """
        if not self._socket.poll(round(1000 * timeout_s)):
            raise RunError(f"the run did not answer within {timeout_s:g} s.", 1)
        return self._socket.recv_multipart()[-1].decode(errors="replace")

    def close(self) -> None:
        """Leave the run alone."""
        self._socket.close()
        self._context.term()
