"""A double of Intan's RHX: its three TCP sockets, made from its documentation and behaviour.

Each socket takes one connection at a time. Commands come `;`-separated in bare text; `set` and
`execute` answer only to complain, and what follows `set runmode run` in the same message is
answered when RHX stops. Every 128 frames (times the blocks a write) it writes a block of waveforms,
then the spikes in it. Time stamps begin at 0 with every run.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import struct
import threading
import time
from pathlib import Path

from tests.peers.recorded_spikes import RecordedSpikes, every, maze

FRAMES = 128
_BANDS = ("tcpdataoutputenabled", "tcpdataoutputenabledlow", "tcpdataoutputenabledhigh")


class RhxDouble:
    """Listens on three ports of this host from `start` to `stop`.

    Parameters
    ----------
    spikes
        What it detects; unit n is channel n: A-000 to A-127, then B-000.
    rate_hz
        Its sample rate.
    ports
        Command, waveform and spike port; 0 for any.
    first
        The time stamp with which a run begins, which is 0 of the real one.
    pieces
        Whether to write in pieces of random length, cut anywhere.

    Attributes
    ----------
    log
        Every command that came.
    sent
        Samples and units of the spikes that were sent.
    began_ns
        Host time (`time.monotonic_ns`) of the first sample of the run.
    """

    def __init__(
        self,
        spikes: RecordedSpikes,
        rate_hz: int = 30_000,
        ports: tuple[int, int, int] = (0, 0, 0),
        first: int = 0,
        pieces: bool = False,
    ) -> None:
        self.spikes, self.rate_hz, self.first, self.pieces = spikes, rate_hz, first, pieces
        self.ports = list(ports)
        self.log: list[str] = []
        self.sent: list[tuple[int, int]] = []
        self.skip_blocks = 0
        self.garbage = b""
        self.silent = False
        self.began_ns = 0
        self.blocks_per_write = 10
        self._enabled: dict[str, set[str]] = {}
        self._running = threading.Event()
        self._idle = threading.Event()
        self._stopping = threading.Event()
        self._open: dict[str, socket.socket] = {}
        self._lock = threading.Lock()
        self._random = random.Random(0)

    # Life

    def start(self) -> RhxDouble:
        """Listen for commands, and have the data sockets ready to be opened."""
        self._stopping.clear()
        self._enabled = {}
        self._servers = {
            name: self._listen(i) for i, name in enumerate(("command", "waveform", "spike"))
        }
        self._threads = [
            threading.Thread(target=self._serve_commands, daemon=True),
            threading.Thread(target=self._serve_data, args=("waveform",), daemon=True),
            threading.Thread(target=self._serve_data, args=("spike",), daemon=True),
            threading.Thread(target=self._acquire, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """Quit, as if the window was closed or the program crashed."""
        self._stopping.set()
        self._running.clear()
        for server in self._servers.values():
            server.close()
        with self._lock:
            for connection in self._open.values():
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()
            self._open.clear()
        for thread in self._threads:
            thread.join(5)

    def press_run(self, run: bool) -> None:
        """Do what the buttons Run and Stop do."""
        if run:
            self._running.set()
        else:
            self._running.clear()
            self._idle.wait(5)

    def _listen(self, index: int) -> socket.socket:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", self.ports[index]))
        self.ports[index] = server.getsockname()[1]
        server.listen(1)
        server.settimeout(0.1)
        return server

    def _accept(self, name: str) -> socket.socket | None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._servers[name].accept()
            except TimeoutError:
                continue
            except OSError:
                return None
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open[name] = connection
            return connection
        return None

    def _serve_data(self, name: str) -> None:
        while (connection := self._accept(name)) is not None:
            with contextlib.suppress(OSError):
                connection.recv(1)
            with self._lock:
                if self._open.get(name) is connection:
                    del self._open[name]

    # Commands

    def _serve_commands(self) -> None:
        while (connection := self._accept("command")) is not None:
            with contextlib.suppress(OSError):
                while data := connection.recv(1024):
                    self._obey(data.decode(), connection)

    def _obey(self, text: str, connection: socket.socket) -> None:
        for command in filter(None, (c.strip() for c in text.split(";"))):
            self.log.append(command)
            answer = self._do(command.lower().split())
            if answer and not self.silent:
                connection.sendall(answer.encode())

    def _do(self, words: list[str]) -> str:
        if words[0] == "get" and len(words) == 2:
            return self._get(words[1])
        if words[0] == "set" and len(words) == 3:
            return self._set(words[1], words[2])
        if words[0] == "execute" and len(words) == 2:
            if words[1] == "clearalldataoutputs":
                self._enabled = {}
            elif not words[1].startswith("connecttcp"):
                return "Unrecognized action"
            return ""
        return "Error - Command 1: Unrecognized command"

    def _get(self, name: str) -> str:
        mode = "Run" if self._running.is_set() else "Stop"
        values = {
            "runmode": ("RunMode", mode),
            "sampleratehertz": ("SampleRateHertz", str(self.rate_hz)),
            "tcpwaveformdataoutputport": ("TCPWaveformDataOutputPort", str(self.ports[1])),
            "tcpspikedataoutputport": ("TCPSpikeDataOutputPort", str(self.ports[2])),
        }
        for kind in ("waveform", "spike"):
            status = "Connected" if kind in self._open else "Pending"
            name_of = f"TCP{kind.capitalize()}DataOutputConnectionStatus"
            values[name_of.lower()] = (name_of, status)
        if name not in values:
            return "Unrecognized parameter"
        return "Return: " + " ".join(values[name])

    def _set(self, name: str, value: str) -> str:
        if name == "runmode":
            if (value == "run") == self._running.is_set():
                return "Board must be stopped in order to start running"
            self.press_run(value == "run")
            return ""
        if self._running.is_set():
            return f"{name} cannot be set while the controller is running"
        if name == "tcpnumberdatablocksperwrite":
            self.blocks_per_write = int(value)
            return ""
        channel, _, setting = name.partition(".")
        if channel.upper() not in self.channels:
            return "Unrecognized parameter"
        if value == "true":
            self._enabled.setdefault(setting, set()).add(channel.upper())
        return ""

    @property
    def channels(self) -> list[str]:
        """Native names of the channels that are plugged in."""
        return [f"{'ABCDEFGH'[n // 128]}-{n % 128:03}" for n in range(self.spikes.n_units)]

    # Data

    def _acquire(self) -> None:
        while not self._stopping.is_set():
            self._idle.set()
            if not self._running.wait(0.1):
                continue
            self._idle.clear()
            self.began_ns = time.monotonic_ns()
            sample = 0
            while self._running.is_set() and not self._stopping.is_set():
                end = sample + FRAMES * self.blocks_per_write
                due_ns = self.began_ns + end * 1_000_000_000 // self.rate_hz
                time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
                if self.skip_blocks:
                    self.skip_blocks -= 1
                else:
                    self._write_all(sample, end)
                sample = end

    def _write_all(self, sample: int, end: int) -> None:
        bands = [s for s in _BANDS if self._enabled.get(s)]
        columns = [
            index for index, channel in enumerate(self.channels) for band in bands
            if channel in self._enabled[band]
        ]  # fmt: skip
        with_spikes = self._enabled.get("tcpdataoutputenabledspike", set())
        if not columns and not with_spikes:
            return
        waveform = b""
        for first in range(sample, end, FRAMES):
            waveform += struct.pack("<I", 0x2EF07A08)
            for at in range(first, first + FRAMES):
                waveform += struct.pack("<I", (at + self.first) % 2**32)
                waveform += struct.pack(
                    f"<{len(columns)}H", *(32768 + c + at % 100 for c in columns)
                )
        spike = b""
        for at, unit in zip(*self.spikes.between(sample, end, self.rate_hz), strict=True):
            channel = self.channels[unit]
            if channel in with_spikes:
                stamp = (int(at) + self.first) % 2**32
                spike += struct.pack("<I5sIB", 0x3AE2710F, channel.encode(), stamp, 1)
                self.sent.append((int(at), int(unit)))
        garbage, self.garbage = self.garbage, b""
        self._write("waveform", waveform)
        self._write("spike", garbage + spike)

    def _write(self, name: str, data: bytes) -> None:
        with self._lock:
            connection = self._open.get(name)
        if connection is None:
            return
        with contextlib.suppress(OSError):
            while data:
                size = self._random.randint(1, 40) if self.pieces else len(data)
                connection.sendall(data[:size])
                data = data[size:]


def main() -> None:
    """Play a trial until this process is ended; `began_ns` is written to --began."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trial", type=Path)
    parser.add_argument("--ports", type=int, nargs=3, default=(5000, 5001, 5002))
    parser.add_argument("--began", type=Path)
    options = parser.parse_args()
    spikes = maze(options.trial) if options.trial else every(0.01, 8)
    double = RhxDouble(spikes, ports=tuple(options.ports)).start()
    print(*double.ports, flush=True)
    written = 0
    while True:
        if options.began and double.began_ns != written:
            written = double.began_ns
            options.began.write_text(str(written))
        time.sleep(0.05)


if __name__ == "__main__":
    main()
