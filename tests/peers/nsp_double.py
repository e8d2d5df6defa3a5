"""A double of a Blackrock signal processor that runs: its UDP packets, made from their layout.

Every millisecond a datagram with the spikes whose waveforms are complete; every 10 ms a heartbeat;
every 100 ms a monitor packet with the number of packets sent since the last one; now and then a
comment, continuous samples and packets of its configuration.
"""

from __future__ import annotations

import argparse
import socket
import struct
import threading
import time
from pathlib import Path

from tests.peers.recorded_spikes import RecordedSpikes, every, maze

_WAVEFORM = 48
_AFTER_S = 38 / 30_000


def packet(ticks: int, channel: int, kind: int, body: bytes = b"") -> bytes:
    """Return one packet; the body is padded to words of 4 bytes."""
    body += bytes(-len(body) % 4)
    return struct.pack("<QHHHBB", ticks, channel, kind, len(body) // 4, 0, 0) + body


def spike(ticks: int, channel: int, unit: int) -> bytes:
    """Return a spike: features, peak, valley, waveform."""
    wave = struct.pack(f"<{_WAVEFORM}h", *(-100 if n == 10 else 0 for n in range(_WAVEFORM)))
    return packet(ticks, channel, unit, struct.pack("<3f2h", 1.0, 2.0, 3.0, 20, -100) + wave)


class NspDouble:
    """Sends packets to an address of this host from `start` to `stop`.

    Parameters
    ----------
    spikes
        Unit n is channel n + 1.
    to
        Where the packets are sent to.
    nanoseconds
        Whether it counts nanoseconds, as Gemini does, or samples at 30 kHz.
    source
        The address of this host that it sends from.
    first_s
        Its clock when it starts.

    Attributes
    ----------
    lose
        How many of the next datagrams with spikes are not sent although they are counted.
    sent
        Samples at 30 kHz and units of the spikes that were sent.
    began_ns
        Host time (`time.monotonic_ns`) at which its clock was zero.
    """

    def __init__(
        self, spikes: RecordedSpikes, to: tuple[str, int], nanoseconds: bool = True,
        source: str = "127.0.0.1", first_s: float = 1000.0,
    ) -> None:  # fmt: skip
        self._spikes, self._to, self._first_s = spikes, to, first_s
        self._hz = 1_000_000_000 if nanoseconds else 30_000
        self._source = source
        self.lose = 0
        self.sent: list[tuple[int, int]] = []
        self.unit = 0
        self.extra = b""
        self.paused = threading.Event()
        self.began_ns = 0
        self._stopping = threading.Event()

    def start(self) -> NspDouble:
        """Begin to send."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        self._socket.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self._source)
        )
        self._socket.bind((self._source, 0))
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Be switched off."""
        self._stopping.set()
        self._thread.join(5)
        self._socket.close()

    def _run(self) -> None:
        start_ns = time.monotonic_ns()
        first_ns = round(self._first_s * 1e9)
        self.began_ns = start_ns - first_ns
        done = round((self._first_s - _AFTER_S) * 30_000)
        sent = 0
        ms = 0
        while not self._stopping.is_set():
            ms += 1
            time.sleep(max(0, start_ns + ms * 1_000_000 - time.monotonic_ns()) / 1e9)
            now_s = self._first_s + ms / 1000
            until = round((now_s - _AFTER_S) * 30_000)
            samples, units = self._spikes.between(done, until, 30_000)
            done = until
            spikes = [
                spike(round(int(at) * self._hz / 30_000), int(unit) + 1, self.unit)
                for at, unit in zip(samples, units, strict=True)
            ]
            others = self._others(ms, round(now_s * self._hz))
            if ms % 100 == 0:
                count = struct.pack("<II", sent + 1 + len(spikes) + len(others), ms // 100)
                others.append(packet(round(now_s * self._hz), 0x8000, 0x01, count))
                sent = -len(spikes) - len(others)
            sent += len(spikes) + len(others)
            if spikes and self.lose:
                self.lose -= 1
                spikes = []
            extra, self.extra = self.extra, b""
            data = b"".join(spikes + others) + extra
            if data and not self.paused.is_set():
                self._socket.sendto(data, self._to)
                self.sent += zip(samples.tolist(), units.tolist(), strict=True) if spikes else ()

    def _others(self, ms: int, now: int) -> list[bytes]:
        found = []
        if ms % 10 == 0:
            found.append(packet(now, 0x8000, 0x00))
        if ms % 50 == 0:
            found.append(packet(now, 0, 5, struct.pack("<4h", 1, 2, 3, 4)))
            found.append(packet(now, 0x8000, 0x31, b"\0" * 8 + b"a comment"))
            found.append(packet(now, 0x8000, 0x21, b"\0" * 116))
        return found


def main() -> None:
    """Send a trial until this process is ended; the zero of its clock is written to --began."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trial", type=Path)
    parser.add_argument("--port", type=int, default=51002)
    parser.add_argument("--began", type=Path)
    options = parser.parse_args()
    spikes = maze(options.trial) if options.trial else every(0.01, 8)
    print(options.port, flush=True)
    double = NspDouble(spikes, ("127.0.0.1", options.port)).start()
    while not double.began_ns:
        time.sleep(0.001)
    if options.began:
        options.began.write_text(str(double.began_ns))
    threading.Event().wait()


if __name__ == "__main__":
    main()
