"""A sound server with a sound card that is not there, for benchmarks and tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError

RATE_HZ = 48_000
SINK = "silent"
_PATIENCE_S = 20.0
_PRIORITY = 10


class NullSink:
    """A PulseAudio daemon of its own in a folder, with one sink that plays nowhere."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "native"
        self.environment = {
            **os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder),
            "PULSE_SERVER": f"unix:{self.socket}",
        }  # fmt: skip
        self.pulseaudio: subprocess.Popen[bytes] | None = None
        self.start()

    @staticmethod
    def missing() -> list[str]:
        """Return the programs that are not installed."""
        return [name for name in ("pulseaudio", "pactl", "parec") if shutil.which(name) is None]

    def start(self) -> None:
        """Start the daemon, again after `kill`, and wait until it answers."""
        self.socket.unlink(missing_ok=True)
        self.pulseaudio = subprocess.Popen(
            [
                "pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
                "-L", f"module-native-protocol-unix socket={self.socket} auth-anonymous=1",
                "-L", f"module-null-sink sink_name={SINK} rate={RATE_HZ} channels=2",
            ],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + _PATIENCE_S
        while not (self.socket.exists() and SINK in self.control("list", "short", "sinks")):
            if self.pulseaudio.poll() is not None or time.monotonic() > end:
                raise RuntimeError("PulseAudio does not start")
            # The daemon tells nobody when it is up: it can only be asked.
            time.sleep(0.05)

    def control(self, *arguments: str) -> str:
        """Return what `pactl` says."""
        done = subprocess.run(
            ["pactl", *arguments], env=self.environment, capture_output=True, text=True, check=False
        )
        return done.stdout

    @property
    def pid(self) -> int:
        """The process of the daemon."""
        assert self.pulseaudio is not None
        return self.pulseaudio.pid

    def kill(self) -> None:
        """End the daemon at once."""
        if self.pulseaudio is not None:
            self.pulseaudio.kill()
            self.pulseaudio.wait()


class Capture:
    """What comes out of the sink, one channel of 16 bits, with the time at which it was read."""

    def __init__(self, sink: NullSink) -> None:
        self._parec = subprocess.Popen(
            [
                "parec", "-d", f"{SINK}.monitor", "--format=s16le", f"--rate={RATE_HZ}",
                "--channels=1", "--latency-msec=2", "--raw",
            ],
            env=sink.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._pieces: list[bytes] = []
        self._stamps: list[tuple[int, int]] = []
        self._loudest = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        end = time.monotonic() + _PATIENCE_S
        while not self._stamps:
            if time.monotonic() > end:
                raise RuntimeError("the monitor of the sink gives nothing")
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        """The process that reads."""
        return self._parec.pid

    @property
    def loudness(self) -> float:
        """How loud the newest piece was, 0 to 1."""
        return self._loudest / 32768

    def close(self) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """Stop; return the samples, and for each when it had been read (`time.monotonic_ns`)."""
        self._parec.terminate()
        self._parec.wait()
        self._thread.join()
        samples = np.frombuffer(b"".join(self._pieces), np.int16)
        stamps = np.array(self._stamps, np.int64).reshape(-1, 2)
        read_ns = np.repeat(stamps[:, 0], np.diff(stamps[:, 1], prepend=0))
        return samples, read_ns

    def _read(self) -> None:
        assert self._parec.stdout is not None
        total = 0
        rest = b""
        while data := os.read(self._parec.stdout.fileno(), 65536):
            now_ns = time.monotonic_ns()
            data = rest + data
            rest = data[len(data) // 2 * 2 :]
            data = data[: len(data) // 2 * 2]
            if not data:
                continue
            total += len(data) // 2
            self._loudest = int(np.abs(np.frombuffer(data, np.int16).astype(np.int32)).max())
            self._pieces.append(data)
            self._stamps.append((now_ns, total))


@contextmanager
def play_into(folder: Path, realtime: bool) -> Iterator[Capture]:
    """Start a null sink that runs of this process play into, and read what comes out of it.

    With `realtime`, server and reader go before ordinary programs too: a sound card does.

    Raises
    ------
    ConfigError
        They may not.
    """
    sink = NullSink(folder)
    # The processes of a run inherit it.
    before = os.environ.get("PULSE_SERVER")
    os.environ["PULSE_SERVER"] = sink.environment["PULSE_SERVER"]
    try:
        capture = Capture(sink)
        if realtime:
            _claim_real_time(sink.pid, capture.pid)
        yield capture
    finally:
        sink.kill()
        if before is None:
            del os.environ["PULSE_SERVER"]
        else:
            os.environ["PULSE_SERVER"] = before


def _claim_real_time(*pids: int) -> None:
    try:
        for pid in pids:
            os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except PermissionError:
        raise ConfigError(
            "a sound server may not have real-time priority here; leave '--realtime' away, or see"
            " `innervate doctor`."
        ) from None
