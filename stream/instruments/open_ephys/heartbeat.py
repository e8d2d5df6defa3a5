"""Signs of life for the ZMQ Interface, which lists its clients by them."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import zmq

_EVERY_NS = 2_000_000_000
_PATIENCE_NS = 10_000_000_000
_REPLY_LIMIT_BYTES = 4096


class Heartbeat:
    """Asks on the control port (data port + 1) every 2 s, and counts the answers.

    Data come without it, too. A request that has no answer after 10 s is given up with its socket,
    since such a socket sends nothing else before the answer has come.
    """

    def __init__(self, host: str, port: int) -> None:
        self.answers = 0
        self._address = f"tcp://{host}:{port + 1}"
        self._request = json.dumps(
            {"application": "innervate", "uuid": str(uuid.uuid4()), "type": "heartbeat"}
        ).encode()
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket: zmq.Socket[Any] | None = None
        self._asked_ns = 0
        self._open = False
        self.due_ns = 0

    def tick(self) -> None:
        """Take the answer to the last request, and send the next one when it is time."""
        now_ns = time.monotonic_ns()
        if self._open and self._socket is not None:
            try:
                self._socket.recv(zmq.NOBLOCK)
                self._open = False
                self.answers += 1
            except zmq.Again:
                if now_ns - self._asked_ns > _PATIENCE_NS:
                    self._socket.close()
                    self._socket = None
                    self._open = False
        if not self._open:
            if self._socket is None:
                self._socket = self._context.socket(zmq.REQ)
                self._socket.linger = 0
                self._socket.setsockopt(zmq.MAXMSGSIZE, _REPLY_LIMIT_BYTES)
                self._socket.connect(self._address)
            self._socket.send(self._request, zmq.NOBLOCK)
            self._open = True
            self._asked_ns = now_ns
        self.due_ns = now_ns + _EVERY_NS

    def close(self) -> None:
        """Release the socket."""
        if self._socket is not None:
            self._socket.close()
        self._context.term()
