"""Starts a run, watches over it, ends it, and says what happened.

One process per group. No source starts before every node is open and every link has been tried in
both directions. A worker that reports a failure, dies, or stops beating is noticed within a second;
what came from it counts as ended, sources stop, and the other groups end as they do at the end of
any run: every node sees the end of its inputs, finishes and closes its files.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import zmq

from stream.plan import Plan
from stream.registry import node_class
from stream.runtime import messages
from stream.runtime.addresses import bind_private, private_prefix
from stream.runtime.link_messages import fixed_bytes
from stream.runtime.messages import Mark
from stream.runtime.process import Limits, WorkerProcess
from stream.runtime.report import Report, assemble
from stream.runtime.run_folders import announced, run_folder
from stream.runtime.shared_memory import LARGE_BYTES, anonymous_file
from stream.runtime.surroundings import ending_signals, logged
from stream.runtime.switching import SwitchServer, Way, Wish
from stream.units import to_ns

_START_DELAY_NS = 50_000_000
STATUS_S = 0.25
"""How often the status of a run is published."""

_STATUS_NS = to_ns(STATUS_S)
_POLL_MS = 50
_LOGGED_REFUSALS = 20
_LAST_WORDS_NS = 500_000_000
_CUT_NS = 2_000_000_000
_log = logging.getLogger(__name__)


def run_plan(
    plan: Plan,
    *,
    duration_s: float | None = None,
    on_status: Callable[[dict[str, Any]], object] | None = None,
    run_dir: Path | None = None,
    limits: Limits | None = None,
) -> Report:
    """Run a pipeline until its sources end, `duration_s` is over, or Ctrl-C, and report on it.

    Parameters
    ----------
    plan
        The validated pipeline.
    duration_s
        Sources emit what is due up to and including this long after the common start.
    on_status
        Called a few times a second with the statistics that the status socket publishes; the run
        ends, as by Ctrl-C, when it returns something true.
    run_dir
        Folder for logs and what nodes leave; by default a new one, see `run_folder`.
    limits
        How long things may take.

    Returns
    -------
    Report
        Its `exit` is 0 after a clean end, also one by Ctrl-C, SIGTERM or SIGHUP; 1 when a node
        failed, died or hung; 2 when a node could not open, so that nothing was started; 130 when
        it was to end before it had started, or a second Ctrl-C cut the end short. Its `message`
        says which node and why.

    Raises
    ------
    ConfigError
        The folder of the run cannot be made.
    """
    token = secrets.token_hex(16)
    with (
        run_folder(plan.name, run_dir) as folder,
        private_prefix(token) as prefix,
        zmq.Context() as context,
    ):
        way = Way(f"{prefix}switch", secrets.token_hex(16))
        supervisor = _Supervisor(
            plan, duration_s=duration_s, on_status=on_status, folder=folder,
            limits=limits or Limits(), token=token, prefix=prefix, way=way, context=context,
        )  # fmt: skip
        with (
            announced(folder, plan.name, f"{prefix}status", way),
            logged(_log, folder / "supervisor.log"),
            ending_signals(supervisor.interrupt),
        ):
            try:
                return supervisor.run()
            finally:
                supervisor.close()


class _Supervisor:
    def __init__(
        self,
        plan: Plan,
        *,
        duration_s: float | None,
        on_status: Callable[[dict[str, Any]], object] | None,
        folder: Path,
        limits: Limits,
        token: str,
        prefix: str,
        way: Way,
        context: zmq.Context[Any],
    ) -> None:
        self._plan = plan
        self._duration_s = duration_s
        self._on_status = on_status
        self._folder = folder
        self._limits = limits
        self._token = token
        self._prefix = prefix
        self._control: zmq.Socket[Any] = context.socket(zmq.ROUTER)
        self._control.setsockopt(zmq.LINGER, 0)
        bind_private(self._control, f"{prefix}control")
        self._status: zmq.Socket[Any] = context.socket(zmq.PUB)
        self._status.setsockopt(zmq.LINGER, 0)
        bind_private(self._status, f"{prefix}status")
        self._switch = SwitchServer(context, way, self._grant, self._refuse)
        self._poller = zmq.Poller()
        for socket in (self._control, self._switch.socket):
            self._poller.register(socket, zmq.POLLIN)
        self._shared = {
            link.stream: anonymous_file("innervate")
            for link in plan.links
            if sys.platform == "linux" and self._is_shared(link.stream)
        }
        self._processes = {
            group: WorkerProcess(group, nodes, tuple(plan.nodes), folder / f"{group}.log")
            for group, nodes in plan.groups.items()
        }
        self._start_ns = 0
        self._interrupts = 0
        self._stopping = False
        self._refused = 0
        self._stopped_ns = 0
        self._moved = (0, time.monotonic_ns())
        self._turned_ns = time.monotonic_ns()
        self._status_ns = 0
        self._exit = 0
        self._message = ""
        self._failed: dict[str, str] = {}

    def _is_shared(self, stream: str) -> bool:
        """Whether packets of a stream leave their group and may be large."""
        links = [link for link in self._plan.links if link.stream == stream]
        source = self._plan.nodes[links[0].source]
        spec = source.outputs[links[0].output]
        leaves = any(self._plan.nodes[link.target].group != source.group for link in links)
        return leaves and (None in spec.shape or fixed_bytes(spec) >= LARGE_BYTES)

    def interrupt(self) -> None:
        """End the run; asked for again, end it at once."""
        self._interrupts += 1

    def run(self) -> Report:
        """Run to the end."""
        for process in self._processes.values():
            process.spawn(f"{self._prefix}control", self._token, tuple(self._shared.values()))
        while not all(process.over for process in self._processes.values()):
            self._poller.poll(_POLL_MS)
            self._read_control()
            self._switch.serve()
            self._check_processes()
            if self._interrupts > 1:
                self._fail(None, "the run was cut short by a second Ctrl-C", 130)
                break
            if self._interrupts and not self._stopping:
                if self._start_ns:
                    self._stop()
                else:
                    self._fail(None, "the run was interrupted before it had started", 130)
            self._cut_openings()
            if not self._start_ns and not self._stopping and self._all_ready():
                self._start()
            self._publish()
        for process in self._processes.values():
            if process.done and not process.exits_within(self._limits.drain_s):
                self._fail(process, f"the process of {process.who} did not end", 1)
        self._publish(final=True)
        return self._report()

    def close(self) -> None:
        """End what is left of the processes, and free what they shared."""
        for process in self._processes.values():
            process.close()
        for fd in self._shared.values():
            os.close(fd)
        self._switch.close()
        self._control.close()
        self._status.close()

    # Starting

    def _set_up(self, process: WorkerProcess) -> None:
        plan = msgspec.json.encode(self._plan, enc_hook=messages.plain)
        self._tell(
            process,
            messages.Setup(plan, self._token, self._prefix, str(self._folder), self._shared),
        )

    def _all_ready(self) -> bool:
        return all(process.ready for process in self._processes.values())

    def _start(self) -> None:
        self._start_ns = time.monotonic_ns() + _START_DELAY_NS
        stop_ns = None if self._duration_s is None else self._start_ns + to_ns(self._duration_s)
        self._moved = (0, self._start_ns)
        for process in self._processes.values():
            self._tell(process, messages.Start(self._start_ns, stop_ns))

    # Watching

    def _tell(self, process: WorkerProcess, message: messages.ToWorker) -> None:
        self._control.send_multipart([process.group.encode(), messages.encode(message)])

    def _read_control(self) -> None:
        while True:
            try:
                frames = self._control.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                group, message = frames[0].decode(), messages.from_worker.decode(frames[1])
                process = self._processes[group]
            except (IndexError, KeyError, UnicodeDecodeError, msgspec.MsgspecError) as error:
                self._refuse(f"a message on the control socket ({type(error).__name__})")
                continue
            process.last_ns = time.monotonic_ns()
            self._hear(process, message)

    def _refuse(self, what: str) -> None:
        """Count what strangers sent to the control socket; the report has the number."""
        self._refused += 1
        if self._refused <= _LOGGED_REFUSALS:
            _log.warning("refused %s", what)

    def _hear(self, process: WorkerProcess, message: messages.FromWorker) -> None:
        if isinstance(message, messages.Hello):
            if message.token != self._token:
                self._refuse("a worker that is not of this run")
            elif self._stopping:
                self._tell(process, messages.Stop())
            else:
                self._set_up(process)
        elif isinstance(message, messages.Ready):
            process.ready = True
        elif isinstance(message, messages.Beat):
            process.statistics = message.statistics or process.statistics
        elif isinstance(message, messages.Failed):
            use = self._plan.nodes[message.node].use
            text = (
                f"node '{message.node}' ({use}) failed: {message.message.rstrip('.')}."
                f" Details are in {process.log}"
            )
            self._failed.setdefault(message.node, text)
            self._fail(None, text, 1 if self._start_ns else 2)
        else:
            process.done = True
            process.statistics = message.statistics
            process.ended_ns = message.ended_ns

    def _grant(self, wish: Wish) -> str:
        """Pass on a wish to arm or disarm a node, or return why not."""
        nodes = self._plan.nodes
        can = [name for name, node in nodes.items() if node_class(node.use).can_arm]
        if wish.node not in can:
            return f"there is no node '{wish.node}' that can be armed; {_those(can)}."
        process = self._processes[nodes[wish.node].group]
        if not self._start_ns or self._stopping or process.over:
            return f"'{wish.node}' is not at work: the run is about to begin or to end."
        self._tell(process, messages.Arm(wish.node, wish.armed, wish.by, wish.seen_ns))
        return ""

    def _check_processes(self) -> None:
        now_ns = time.monotonic_ns()
        # When this process itself did not get to run, silence says nothing about the others.
        late_ns = max(0, now_ns - self._turned_ns - 2 * _POLL_MS * 1_000_000)
        self._turned_ns = now_ns
        for process in self._processes.values():
            if process.over:
                continue
            process.last_ns += late_ns
            code = process.exit_code()
            if code is not None:
                # Its last words may be later here than the news of its end.
                deadline_ns = now_ns + _LAST_WORDS_NS
                while not process.done and time.monotonic_ns() < deadline_ns:
                    self._control.poll(_POLL_MS)
                    self._read_control()
                    if code != 0:
                        break
                if not process.done:
                    self._fail(process, process.death(code), 1)
            elif reason := process.silence(now_ns, self._limits):
                self._fail(process, reason, 1)
        if self._start_ns:
            self._check_draining(now_ns)

    def _check_draining(self, now_ns: int) -> None:
        """Give up on an end that does not come, though every process turns its loop."""
        moved = sum(
            counts["packets_in"]
            for process in self._processes.values()
            for counts in process.statistics.get("nodes", {}).values()
        )
        if moved != self._moved[0]:
            self._moved = (moved, now_ns)
        still = [process for process in self._processes.values() if not process.over]
        ending = self._stopping or all(p.statistics.get("sources_ended") for p in still)
        if (
            ending
            and still
            and now_ns - self._moved[1] > to_ns(self._limits.drain_s)
            and all(process.phase == Mark.STREAMING for process in still)
        ):
            for process in still:
                self._fail(process, f"{process.who} did not come to an end", 1)

    # Ending

    def _stop(self) -> None:
        self._stopping = True
        self._stopped_ns = time.monotonic_ns()
        self._moved = (self._moved[0], self._stopped_ns)
        self._publish(now=True)
        for process in self._processes.values():
            self._tell(process, messages.Stop())

    def _cut_openings(self) -> None:
        """Once a run has ended before its start, wait only briefly for what still opens."""
        if not self._stopping or self._start_ns or time.monotonic_ns() < self._stopped_ns + _CUT_NS:
            return
        for process in self._processes.values():
            if process.opening and not process.over:
                process.gone = True
                process.kill()

    def _fail(self, process: WorkerProcess | None, message: str, code: int) -> None:
        """Keep the first failure, lose the process if there is one, and end the run."""
        _log.info("%s", message)
        if not self._exit:
            self._exit, self._message = code, message
        if process is not None:
            process.gone = True
            process.kill()
            for node in process.nodes:
                self._failed.setdefault(node, message)
        # Whoever watches hears of it before it hears that streams have ended.
        self._publish(now=True)
        if process is not None:
            for other in self._processes.values():
                if other is not process:
                    self._tell(other, messages.Lost([process.group]))
        if not self._stopping:
            self._stop()

    # Saying

    def _report(self) -> Report:
        ended_ns = max((p.ended_ns for p in self._processes.values()), default=0)
        ended_ns = ended_ns or time.monotonic_ns()
        duration_s = (ended_ns - self._start_ns) / 1e9 if self._start_ns else 0.0
        return assemble(
            self._plan,
            [process.statistics for process in self._processes.values()],
            exit_code=self._exit,
            message=self._message,
            duration_s=max(0.0, duration_s),
            run_dir=self._folder,
            refused=self._refused,
        )

    def _publish(self, *, final: bool = False, now: bool = False) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._status_ns < _STATUS_NS and not (final or now):
            return
        self._status_ns = now_ns
        ending = self._stopping or self._exit
        state = "ended" if final else "stopping" if ending else "running"
        if not self._start_ns and not final:
            state = "starting"
        now_s = (now_ns - self._start_ns) / 1e9 if self._start_ns else 0.0
        report = self._report()
        if not final:
            report.duration_s = max(0.0, now_s)
        status = {
            "v": 1, "t_ns": now_ns, "state": state, "message": self._message,
            "failed": self._failed, **report.status(),
        }  # fmt: skip
        self._status.send_multipart([b"status", messages.encode(status)])
        if self._on_status is not None and self._on_status(status):
            self._interrupts = max(1, self._interrupts)


def _those(can: list[str]) -> str:
    return f"there are {', '.join(can)}" if can else "this run has none"
