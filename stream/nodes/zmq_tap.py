"""The `zmq` node: a tap that publishes streams to programs outside the run."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import zmq
import zmq.auth
from pydantic import Field
from zmq.auth.thread import ThreadAuthenticator

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.packet import Packet, encode, encode_end

# How much may wait for one subscriber before it loses packets.
_BACKLOG_BYTES = 64 * 1024 * 1024
_BACKLOG_PACKETS = 1000
# Subscribers send nothing but names of streams.
_INBOUND_LIMIT_BYTES = 4096
_LINGER_MS = 500
_Z85_KEY = re.compile(r"^[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}$")


class ZmqTapSettings(NodeSettings):
    """Settings of the `zmq` tap."""

    bind: str = Field(
        "tcp://127.0.0.1:5757",
        description="address to publish on: tcp://127.0.0.1:PORT or ipc:///PATH; an address that"
        " other hosts reach needs the two CURVE files",
    )
    curve_secret_key_file: Path | None = Field(
        None, description="this tap's key pair, a .key_secret file of zmq.auth.create_certificates"
    )
    curve_clients_file: Path | None = Field(
        None, description="public keys (Z85, one a line, # for comments) that may subscribe"
    )


class ZmqTap(Node[ZmqTapSettings]):
    """Publishes every stream linked to it in the wire format, for any ZeroMQ SUB socket.

    A subscriber names the streams that it wants; one that is too slow loses packets, and the run
    never waits for it. What it lost it sees as jumps in `seq`. ZeroMQ does not tell how much that
    was, only when a backlog has filled up: the note `overruns` counts these moments.
    """

    use = "zmq"
    summary = "publishes streams to programs outside the run"
    Settings = ZmqTapSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"*"})
    max_inputs: ClassVar[int | None] = None
    delivery: ClassVar[str] = "queue 1000"

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check the address and the keys; a tap gives no stream.

        Raises
        ------
        ConfigError
            The address is none, reaches beyond this host without keys, or a key file is unusable.
        """
        bind, keys = self.settings.bind, self._key_files()
        if leaves_host(bind, "bind") and keys is None:
            raise ConfigError(
                f"bind: {bind} can be reached from other hosts, which needs CURVE keys: set"
                " curve_secret_key_file and curve_clients_file, or bind to 127.0.0.1."
            )
        if keys is not None:
            read_secret(keys[0])
            _read_clients(keys[1])
        return {}

    def open(self, context: Context) -> None:
        """Bind the socket.

        Raises
        ------
        ConfigError
            The address is in use or does not exist on this host.
        """
        super().open(context)
        self._overruns = 0
        self._next_seq = dict.fromkeys(context.inputs, 0)
        self._zmq = zmq.Context()
        self._authenticator: ThreadAuthenticator | None = None
        self._file: Path | None = None
        self._socket: zmq.Socket[bytes] = self._zmq.socket(zmq.PUB)
        socket = self._socket
        socket.linger = _LINGER_MS
        socket.sndhwm = _backlog(context.inputs.values())
        socket.maxmsgsize = _INBOUND_LIMIT_BYTES
        socket.xpub_nodrop = True
        socket.ipv6 = "[" in self.settings.bind
        if (keys := self._key_files()) is not None:
            self._authenticator = _authenticator(self._zmq, _read_clients(keys[1]))
            socket.zap_domain = b"*"
            socket.curve_publickey, socket.curve_secretkey = read_secret(keys[0])
            socket.curve_server = True
        try:
            socket.bind(self.settings.bind)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(
                f"bind: {self.settings.bind} cannot be used ({error.strerror}); another program may"
                " have it, choose another port or path."
            ) from None
        self.address = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        if self.address.startswith("ipc:///"):
            self._file = Path(self.address.removeprefix("ipc://"))
        context.counters.note("address", self.address)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Publish one packet."""
        self._next_seq[stream] = packet.seq + 1
        self._publish(encode(stream, packet, time.monotonic_ns()))
        return ()

    def finish(self) -> Iterable[Packet]:
        """Tell subscribers that the streams have ended."""
        for stream, seq in self._next_seq.items():
            self._publish(encode_end(stream, seq, time.monotonic_ns()))
        return ()

    def _publish(self, frames: list[bytes | memoryview]) -> None:
        try:
            self._socket.send_multipart(frames, zmq.DONTWAIT)
        except zmq.Again:
            # Somebody's backlog is full. Let that one lose this packet, and the others have it.
            self._overruns += 1
            self.context.counters.note("overruns", self._overruns)
            self._socket.xpub_nodrop = False
            self._socket.send_multipart(frames, zmq.DONTWAIT)
            self._socket.xpub_nodrop = True

    def close(self) -> None:
        """Close the socket; what waits in it goes out within half a second."""
        if not hasattr(self, "_zmq"):
            return
        self._socket.close()
        if self._authenticator is not None:
            self._authenticator.stop()
            self._authenticator = None
        self._zmq.term()
        # libzmq removes a socket file only when it chose the name itself.
        if self._file is not None:
            self._file.unlink(missing_ok=True)

    def _key_files(self) -> tuple[Path, Path] | None:
        secret, clients = self.settings.curve_secret_key_file, self.settings.curve_clients_file
        if secret is None and clients is None:
            return None
        if secret is None or clients is None:
            raise ConfigError(
                "curve_secret_key_file and curve_clients_file belong together; set both or none."
            )
        return secret, clients


def leaves_host(address: str, setting: str) -> bool:
    """Return whether a ZeroMQ address reaches beyond this host.

    Raises
    ------
    ConfigError
        It is no address; `setting` is the key that it was given for.
    """
    scheme, _, rest = address.partition("://")
    if scheme == "ipc" and rest.startswith(("/", "@")):
        return False
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not (port.isdecimal() or port == "*"):
        raise ConfigError(
            f"{setting}: {address!r} is no address; write tcp://127.0.0.1:5757 or ipc:///path."
        )
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return True


def _backlog(specs: Iterable[StreamSpec]) -> int:
    sizes = [
        math.prod(size for size in spec.shape if size is not None) * np.dtype(spec.dtype).itemsize
        for spec in specs
    ]
    return max(4, min(_BACKLOG_PACKETS, _BACKLOG_BYTES // max([1, *sizes])))


def read_public(path: Path) -> bytes:
    """Return the public key in a file of `zmq.auth.create_certificates`.

    Raises
    ------
    ConfigError
        The file cannot be read, or holds no key.
    """
    try:
        return zmq.auth.load_certificate(path)[0]
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"curve_server_key_file: {path} holds no public key ({error}); it is the .key file of"
            " zmq.auth.create_certificates."
        ) from None


def read_secret(path: Path) -> tuple[bytes, bytes]:
    """Return the public and the secret key in a .key_secret file.

    Raises
    ------
    ConfigError
        The file cannot be read, holds no secret key, or others may read it.
    """
    try:
        public, secret = zmq.auth.load_certificate(path)
        open_to_others = os.name == "posix" and path.stat().st_mode & 0o077
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"curve_secret_key_file: {path} holds no key pair ({error}); make one with"
            " zmq.auth.create_certificates."
        ) from None
    if secret is None:
        raise ConfigError(
            f"curve_secret_key_file: {path} holds the public key only; give the .key_secret file."
        )
    if open_to_others:
        raise ConfigError(f"curve_secret_key_file: others may read {path}; run `chmod 600 {path}`.")
    return public, secret


def _read_clients(path: Path) -> frozenset[bytes]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"curve_clients_file: {path} cannot be read ({error}).") from None
    keys = set()
    for number, line in enumerate(lines, 1):
        # '#' is a Z85 character too, so a comment has a line of its own.
        text = line.strip()
        if not text or text.startswith("# "):
            continue
        if not _Z85_KEY.match(text):
            raise ConfigError(
                f"curve_clients_file: {path}:{number} is no public key of 40 Z85 characters."
            )
        keys.add(text.encode())
    if not keys:
        raise ConfigError(f"curve_clients_file: {path} names no client, so nobody could connect.")
    return frozenset(keys)


class _AllowList:
    def __init__(self, keys: frozenset[bytes]) -> None:
        self._keys = keys

    def callback(self, domain: str, key: bytes) -> bool:
        return key in self._keys


def _authenticator(context: zmq.Context[Any], keys: frozenset[bytes]) -> ThreadAuthenticator:
    authenticator = ThreadAuthenticator(context)
    authenticator.start()
    authenticator.configure_curve_callback("*", _AllowList(keys))
    return authenticator
