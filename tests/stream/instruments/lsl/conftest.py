from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

# Streams of these tests stay on this machine and are seen by nobody else. liblsl reads this once,
# when it is first used, and what is started here inherits it. On one machine a question reaches
# only the stream that was offered last, unless this machine is asked as a known peer as well.
_FOLDER = Path(tempfile.mkdtemp(prefix="innervate-lsl-"))
atexit.register(shutil.rmtree, _FOLDER, True)
(_FOLDER / "lsl_api.cfg").write_text(
    "[multicast]\nResolveScope = machine\n"
    f"[lab]\nKnownPeers = {{127.0.0.1}}\nSessionID = {uuid.uuid4().hex}\n"
    "[log]\nlevel = -3\n"
)
os.environ["LSLAPICFG"] = str(_FOLDER / "lsl_api.cfg")

PEER = Path(__file__).parents[3] / "peers" / "lsl_outlet.py"


class Sender:
    """The peer, in a process of its own."""

    def __init__(self, **settings) -> None:
        import pylsl

        self.settings = {"source_id": uuid.uuid4().hex, "base_s": pylsl.local_clock(), **settings}
        self.start()

    @property
    def base_ns(self) -> int:
        return round(self.settings["base_s"] * 1e9)

    def start(self, **changes) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), json.dumps({**self.settings, **changes})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def order(self, **order):
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(autouse=True)
def _answer_quickly(monkeypatch):
    """Do not wait for streams of the same name: those of the tests have names of their own."""
    monkeypatch.setattr("stream.instruments.lsl.streams._SETTLED_S", 0.0)


@pytest.fixture(scope="module")
def sender():
    """Start peers; they end with the module."""
    senders = []

    def start(**settings) -> Sender:
        senders.append(Sender(**settings))
        return senders[-1]

    yield start
    for one in senders:
        one.kill()


class Driver:
    """Does with a source what its worker would, in this process."""

    def __init__(self, node, context) -> None:
        self.node = node
        self.context = context
        self.packets: list = []
        node.open(context)
        node.start(time.monotonic_ns())

    def until(self, holds: Callable[[list], object]) -> list:
        """Take packets until they are as they should be; return all so far."""
        end = time.monotonic() + 30
        while not holds(self.packets):
            assert time.monotonic() < end, (len(self.packets), self.context.counters.__dict__)
            due_ns = self.node.due_ns()
            now_ns = time.monotonic_ns()
            if due_ns > now_ns:
                select.select([self.node.wakes], (), (), (due_ns - now_ns) / 1e9)
            if self.node.due_ns() <= time.monotonic_ns():
                self.packets += self.node.tick()
        return self.packets

    def more(self, count: int) -> list:
        """Take so many more packets and return them."""
        before = len(self.packets)
        return self.until(lambda p: len(p) >= before + count)[before:]


@pytest.fixture
def listen(tmp_path):
    """Open an `lsl.in` with these settings and drive it."""
    from stream.instruments.lsl.inlet import LslIn, LslInSettings
    from stream.node import Context, Counters

    drivers = []

    def start(*, alone: bool = False, **settings) -> Driver:
        node = LslIn(LslInSettings(**settings))
        drivers.append(Driver(node, Context("in", {}, tmp_path, Counters(), alone=alone)))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.node.close()
