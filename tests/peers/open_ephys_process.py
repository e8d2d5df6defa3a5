"""Starts the double of Open Ephys as a process, and talks with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


class OpenEphysProcess:
    """The double in a process of its own; `open_ephys_gui.py` has its options and commands.

    Options are given as keywords: `channels=384` for `--channels 384`, `raw=True` for `--raw`.
    """

    def __init__(self, recording: Path, **options: Any) -> None:
        words = ["--recording", str(recording)]
        for name, value in options.items():
            if value is not False:
                words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        path = os.pathsep.join(filter(None, [str(_HERE.parents[1]), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, str(_HERE / "open_ephys_gui.py"), *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.state = self.answer()
        self.port: int = self.state["port"]

    def answer(self) -> dict[str, Any]:
        """Wait for the next line of its answers."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the double of Open Ephys ended with {self.process.wait()}")
        self.state = json.loads(line)
        return dict(self.state)

    def do(self, command: str) -> dict[str, Any]:
        """Give a command and return the answer, which comes before the next block."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.answer()

    def stop(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def free_ports(count: int) -> int:
    """Return the first of `count` ports in a row that are free on this host now."""
    import random
    import socket

    while True:
        first = random.randrange(20_000, 32_000)
        try:
            sockets = [socket.create_server(("127.0.0.1", first + i)) for i in range(count)]
        except OSError:
            continue
        for item in sockets:
            item.close()
        return first
