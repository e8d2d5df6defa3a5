"""A double of a rig made at home: a small program that sends messages by UDP, ZeroMQ or WebSocket.

It uses the `websockets`, `pyzmq` and `msgpack` packages as a user's program would, and nothing of
what it talks to.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgpack
import zmq
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from tests.peers.recorded_spikes import maze


class UdpRig:
    """Sends datagrams to a port of this host."""

    def __init__(self, port: int) -> None:
        self._to = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, data: bytes) -> None:
        """Send one datagram."""
        self._socket.sendto(data, self._to)

    def stop(self) -> None:
        """Quit."""
        self._socket.close()


class ZmqRig:
    """Publishes on a port of this host; started again, on the same one."""

    def __init__(self, port: int | None = None) -> None:
        self._context = zmq.Context()
        # XPUB tells who subscribes, so that nothing is published for nobody.
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.linger = 0
        if port is None:
            port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        else:
            self._bind(port)
        self.port = port
        self.address = f"tcp://127.0.0.1:{port}"

    def _bind(self, port: int) -> None:
        end = time.monotonic() + 10
        while True:
            try:
                self._socket.bind(f"tcp://127.0.0.1:{port}")
                return
            except zmq.ZMQError:
                assert time.monotonic() < end
                time.sleep(0.01)

    def wait(self) -> None:
        """Wait for a subscriber."""
        assert self._socket.poll(10_000)
        self._socket.recv()

    def send(self, data: bytes) -> None:
        """Publish one message."""
        self._socket.send(data)

    def stop(self) -> None:
        """Quit."""
        self._socket.close()
        self._context.term()


class WebSocketRig:
    """Serves one or more clients on a port of this host."""

    def __init__(self, port: int = 0) -> None:
        self._clients: list[ServerConnection] = []
        self._came = threading.Semaphore(0)
        self._server: Server = serve(self._handle, "127.0.0.1", port, compression=None)
        self.port = self._server.socket.getsockname()[1]
        self.address = f"ws://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        self._clients.append(connection)
        self._came.release()
        with contextlib.suppress(ConnectionClosed):
            for _ in connection:
                pass

    def wait(self) -> None:
        """Wait for a client."""
        assert self._came.acquire(timeout=10)

    def send(self, data: bytes | str) -> None:
        """Send one message to every client."""
        for client in self._clients:
            # One that is gone, or that this was too much for.
            with contextlib.suppress(ConnectionClosed):
                client.send(data)

    def stop(self) -> None:
        """Quit."""
        self._server.shutdown()
        for client in self._clients:
            with contextlib.suppress(ConnectionClosed):
                client.close()
        self._thread.join(5)


def as_json(message: dict[str, Any]) -> bytes:
    """Write a message as JSON."""
    return json.dumps(message).encode()


def as_msgpack(message: dict[str, Any]) -> bytes:
    """Write a message as msgpack."""
    return bytes(msgpack.packb(message))


def main() -> None:
    """Send the spikes of a trial every millisecond; the zero of their clock goes to --began."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trial", type=Path, required=True)
    parser.add_argument("--by", choices=("udp", "zmq", "websocket"), required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--msgpack", action="store_true")
    parser.add_argument("--began", type=Path)
    options = parser.parse_args()
    trial = maze(options.trial)
    write = as_msgpack if options.msgpack else as_json
    rig = {"udp": UdpRig, "zmq": ZmqRig, "websocket": WebSocketRig}[options.by](options.port)
    print(options.port, flush=True)
    if not isinstance(rig, UdpRig):
        rig.wait()
    began_ns = time.monotonic_ns()
    if options.began:
        options.began.write_text(str(began_ns))
    for ms in itertools.count():
        time.sleep(max(0, began_ns + (ms + 1) * 1_000_000 - time.monotonic_ns()) / 1e9)
        end = (ms + 1) * 30
        samples, units = trial.between(end - 30, end, 30_000)
        spikes = [[int(s), int(u)] for s, u in zip(samples, units, strict=True)]
        rig.send(write({"t": end, "seq": ms, "spikes": spikes}))


if __name__ == "__main__":
    main()
