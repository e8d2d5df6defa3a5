"""What the supervisor and its workers say to each other: msgpack maps over ROUTER and DEALER."""

from __future__ import annotations

import struct
import time
from mmap import mmap
from pathlib import Path
from typing import Any

import msgspec
import numpy as np


class Hello(msgspec.Struct, tag=True):
    """Worker: I am here. `token` proves that it is one of this run."""

    token: str


class Ready(msgspec.Struct, tag=True):
    """Worker: every node is open and every link in and out of this group is connected."""


class Beat(msgspec.Struct, tag=True):
    """Worker: my loop turns. `statistics` comes with some of them; see `Worker.statistics`."""

    statistics: dict[str, Any] | None = None


class Failed(msgspec.Struct, tag=True):
    """Worker: a node of mine raised. `message` is a sentence for the user."""

    node: str
    message: str


class Done(msgspec.Struct, tag=True):
    """Worker: all of my nodes are closed. The last message of a worker."""

    statistics: dict[str, Any]
    ended_ns: int


class Setup(msgspec.Struct, tag=True):
    """Supervisor: `plan` is the plan as JSON, `prefix` what every address of the run begins with.

    `shared` has a file descriptor, inherited from the supervisor, for each stream whose packets
    may travel through shared memory.
    """

    plan: bytes
    token: str
    prefix: str
    run_dir: str
    shared: dict[str, int]


class Start(msgspec.Struct, tag=True):
    """Supervisor: begin at `start_ns`; sources emit what is due by `stop_ns`, when given."""

    start_ns: int
    stop_ns: int | None


class Stop(msgspec.Struct, tag=True):
    """Supervisor: sources end now, everything else ends when its inputs have."""


class Lost(msgspec.Struct, tag=True):
    """Supervisor: these groups are gone. What came from them has ended."""

    groups: list[str]


class Arm(msgspec.Struct, tag=True):
    """Supervisor: arm or disarm a node of yours; see `switching.Wish`."""

    node: str
    armed: bool
    by: str
    seen_ns: int


FromWorker = Hello | Ready | Beat | Failed | Done
ToWorker = Setup | Start | Stop | Lost | Arm

from_worker = msgspec.msgpack.Decoder(FromWorker)
to_worker = msgspec.msgpack.Decoder(ToWorker)


def plain(value: object) -> object:
    """Turn what nodes leave in their notes into what JSON and msgpack know."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    return repr(value)


encode = msgspec.msgpack.Encoder(enc_hook=plain).encode


class Mark:
    """Where a worker is, in memory that its supervisor sees even when the worker cannot speak."""

    STARTING, OPENING, STREAMING, CLOSING = range(4)
    IDLE = -1
    _FORM = struct.Struct("<iiq")
    SIZE = _FORM.size

    def __init__(self, memory: mmap) -> None:
        self._memory = memory
        self._phase = self.STARTING

    def phase(self, phase: int) -> None:
        """Say what the worker is doing as a whole."""
        self._phase = phase
        self.leave(time.monotonic_ns())

    def enter(self, node: int, now_ns: int) -> None:
        """Say that node number `node` of the plan is being called."""
        self._FORM.pack_into(self._memory, 0, self._phase, node, now_ns)

    def leave(self, now_ns: int) -> None:
        """Say that no node is being called."""
        self._FORM.pack_into(self._memory, 0, self._phase, self.IDLE, now_ns)

    def read(self) -> tuple[int, int, int]:
        """Return the phase, the number of the node being called or `IDLE`, and since when."""
        phase, node, since_ns = self._FORM.unpack_from(self._memory)
        return phase, node, since_ns
