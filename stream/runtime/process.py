"""A worker as its supervisor knows it: the process, its last sign of life, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import Any

from stream.runtime.messages import Mark
from stream.runtime.shared_memory import anonymous_file
from stream.runtime.worker import TOKEN_VARIABLE

_LINKS_S = 5.0


@dataclass(frozen=True)
class Limits:
    """How long things may take before they count as failed, in seconds.

    Attributes
    ----------
    ready_s
        From the start of a process until all of its nodes are open and its links connected.
    silent_s
        Without a sign of life while streaming; one call of a node may take no longer.
    close_s
        For a node to finish and close its files.
    drain_s
        For what is under way to reach its sinks once sources have ended, counted from the last
        packet that moved.
    """

    ready_s: float = 120.0
    silent_s: float = 0.8
    close_s: float = 300.0
    drain_s: float = 10.0


class WorkerProcess:
    """The process of one group.

    Attributes
    ----------
    group, nodes
        Name of the group and of its nodes.
    log
        File that its errors and its log go to.
    ready, done, gone
        Whether its nodes are open and linked, whether it has said its last words, and whether the
        run goes on without it.
    last_ns
        When it was last heard of.
    statistics, ended_ns
        What it last said of its nodes, and when its streams ended.
    """

    def __init__(
        self, group: str, nodes: tuple[str, ...], node_names: Sequence[str], log: Path
    ) -> None:
        self.group = group
        self.nodes = nodes
        self.log = log
        self.ready = False
        self.done = False
        self.gone = False
        self.last_ns = time.monotonic_ns()
        self.statistics: dict[str, Any] = {}
        self.ended_ns = 0
        self._node_names = node_names
        self._spawned_ns = self.last_ns
        self._mark_fd = anonymous_file(f"innervate-{group}")
        os.ftruncate(self._mark_fd, Mark.SIZE)
        self._mark = Mark(mmap(self._mark_fd, Mark.SIZE))
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def who(self) -> str:
        """The nodes of this process, for a message."""
        names = " and ".join(f"'{name}'" for name in self.nodes)
        return f"node {names}" if len(self.nodes) == 1 else f"the nodes {names}"

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.done or self.gone

    @property
    def phase(self) -> int:
        """What it is doing as a whole: one of the phases of `Mark`."""
        return self._mark.read()[0]

    @property
    def opening(self) -> bool:
        """Whether its nodes are not open yet."""
        return self.phase in (Mark.STARTING, Mark.OPENING)

    def spawn(self, control: str, token: str, shared_fds: Sequence[int]) -> None:
        """Start it; it inherits the files in shared memory."""
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [
                    sys.executable, "-m", "stream.runtime.worker",
                    self.group, control, str(self._mark_fd),
                ],
                stdin=subprocess.DEVNULL,
                stderr=log,
                # Threads of BLAS that wait for each other on one core are worse than none.
                env={"OMP_NUM_THREADS": "1", **os.environ, TOKEN_VARIABLE: token},
                pass_fds=[self._mark_fd, *shared_fds],
                # Ctrl-C goes to the supervisor alone, which then ends the workers in order.
                process_group=0,
            )  # fmt: skip

    def exit_code(self) -> int | None:
        """Return how it ended, None while it runs."""
        return None if self._popen is None else self._popen.poll()

    def exits_within(self, duration_s: float) -> bool:
        """Wait until it has ended, and return whether it has."""
        if self._popen is not None:
            try:
                self._popen.wait(duration_s)
            except subprocess.TimeoutExpired:
                return False
        return True

    def kill(self) -> None:
        """End it now; where in the code it was is then in its log."""
        if self._popen is None or self._popen.poll() is not None:
            return
        self._popen.send_signal(signal.SIGUSR1)
        if not self.exits_within(0.1):
            self._popen.kill()
            self._popen.wait()

    def close(self) -> None:
        """End it, if it still runs, and free what was shared with it."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        os.close(self._mark_fd)

    def death(self, code: int) -> str:
        """Return what to say of a process that ended by itself with this exit code."""
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended by itself with exit code {code}"
        busy = self._busy()
        where = f" while '{busy}' was working" if busy and len(self.nodes) > 1 else ""
        return f"the process of {self.who} {how}{where}. Details are in {self.log}"

    def silence(self, now_ns: int, limits: Limits) -> str:
        """Return what to say of a process that has been silent for too long, or nothing."""
        phase, _, since_ns = self._mark.read()
        silent_s = (now_ns - max(self.last_ns, since_ns)) / 1e9
        busy = self._busy()
        name = f"node '{busy}'" if busy else self.who
        if phase in (Mark.STARTING, Mark.OPENING):
            if silent_s > limits.ready_s:
                return f"{name} was not ready after {silent_s:.0f} s"
        elif phase == Mark.CLOSING:
            if silent_s > limits.close_s:
                return f"{name} did not close within {silent_s:.0f} s"
        elif not self.ready:
            if silent_s > limits.silent_s:
                return f"{name} did not answer for {silent_s:.1f} s"
            if (now_ns - self._spawned_ns) / 1e9 > limits.ready_s + _LINKS_S:
                return f"the links of {self.who} could not be connected"
        elif silent_s > limits.silent_s:
            return (
                f"{name} hung: it gave no sign of life for {silent_s:.1f} s. Where it was is in"
                f" {self.log}"
            )
        return ""

    def _busy(self) -> str:
        """Return the node that is being called, if one is."""
        node = self._mark.read()[1]
        return self._node_names[node] if 0 <= node < len(self._node_names) else ""
