"""A UDP socket that listens, and knows what the kernel had no room for."""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import sys

LARGEST = 65_535
_BUFFER_BYTES = 8 * 1024 * 1024
# Linux: with every datagram, how many were dropped so far because the buffer was full.
_SO_RXQ_OVFL = 40


class UdpListener:
    """Receives datagrams that are sent to an address of this host, to all, or to a group.

    Parameters
    ----------
    host, port
        To which they are sent: an address of this host, a broadcast or a multicast address.
    interface
        For a multicast address, the address of this host on whose network to join.

    Attributes
    ----------
    overflowed
        Datagrams that the kernel dropped because they were not read in time; Linux only.

    Raises
    ------
    OSError
        It cannot be listened to there.
    """

    def __init__(self, host: str, port: int, interface: str | None = None) -> None:
        self.overflowed = 0
        six = ":" in host
        self._socket = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._prepare(host, port, interface)
        except OSError:
            self._socket.close()
            raise

    def _prepare(self, host: str, port: int, interface: str | None) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        several = _is_multicast(host) or host.endswith(".255")
        if several:
            # The vendor's own program may listen too.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        self._socket.bind((host, port))
        if _is_multicast(host):
            joined = socket.inet_aton(host) + socket.inet_aton(interface or "0.0.0.0")
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        self._socket.setblocking(False)

    def wait(self, seconds: float) -> None:
        """Wait so long for a datagram at most."""
        select.select([self._socket], (), (), seconds)

    def receive(self) -> tuple[bytes, tuple[str, int]] | None:
        """Return the next datagram and who sent it; None when none waits."""
        try:
            if sys.platform == "win32":
                data, sender = self._socket.recvfrom(LARGEST)
            else:
                data, about, _, sender = self._socket.recvmsg(LARGEST, 64)
                for level, kind, value in about:
                    if (level, kind) == (socket.SOL_SOCKET, _SO_RXQ_OVFL):
                        (self.overflowed,) = struct.unpack("I", value[:4])
        except BlockingIOError:
            return None
        return data, (sender[0], sender[1])

    @property
    def port(self) -> int:
        """The port that it listens to."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def _is_multicast(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_multicast
    except ValueError:
        return False
