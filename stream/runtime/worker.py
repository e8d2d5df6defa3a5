"""One process of a run: the nodes of a group, in one thread that waits, calls and passes on.

Started by the supervisor as `python -m stream.runtime.worker GROUP CONTROL_ADDRESS MARK_FD`, with
the token of the run in the environment.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from copy import copy
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Any

import msgspec
import zmq

from stream.errors import InnervateError
from stream.node import Context, Node, Source
from stream.packet import Packet
from stream.plan import Plan
from stream.runtime import messages
from stream.runtime.calls import Calls
from stream.runtime.clock import SPIN_NS, Waiter, readable
from stream.runtime.link_messages import pack
from stream.runtime.links import Sender
from stream.runtime.messages import Mark
from stream.runtime.running import EndToEnd, Output, Running
from stream.runtime.scheduling import (
    claim_real_time,
    give_way,
    prepare_process,
    release_real_time,
    stand_back,
)
from stream.runtime.shared_memory import LARGE_BYTES
from stream.runtime.switching import RECENT_NS
from stream.runtime.wiring import wire
from stream.runtime.worker_statistics import worker_statistics

TOKEN_VARIABLE = "INNERVATE_TOKEN"
BEAT_NS = 100_000_000
_STATISTICS_NS = 250_000_000
_IDLE_NS = 3_000_000
_COLLECT_NS = 1_000_000_000
_COLLECT_LATEST_NS = 10_000_000_000
_TURN_NS = 1_000_000
# How long before a packet is due its way is woken. The waking takes some 350 us.
_KNOCK_NS = 1_000_000
_NEVER_NS = 2**63 - 1

_log = logging.getLogger(__name__)


class Worker:
    """Runs the nodes of one group from their opening to their closing."""

    def __init__(
        self,
        group: str,
        setup: messages.Setup,
        context: zmq.Context[Any],
        control: zmq.Socket[Any],
        mark: Mark,
    ) -> None:
        self._group = group
        self._plan = plan = msgspec.json.decode(setup.plan, type=Plan)
        self._setup = setup
        self._token = bytes.fromhex(setup.token)
        self._control = control
        self._mark = mark
        self._parent = os.getppid()
        self._start: messages.Start | None = None
        self._stopped = False
        # What has been asked for, but not while a node is being called.
        self._to_arm: deque[messages.Arm] = deque()
        self._real_time: str | None = None
        self._in_no_hurry: set[str] = set()
        self._beat_ns = 0
        self._statistics_ns = 0
        self._collected_ns = 0
        self._calls = Calls(mark, self._fail)
        self._nodes, self._senders, self._receivers = wire(group, plan, setup, context)
        self._waiter = Waiter()
        self._waiter.add(control)
        for sender in self._senders:
            self._waiter.add(sender.back)
        for receiver, _ in self._receivers:
            self._waiter.add(receiver.socket)
        self._gathers = not any(receiver.lossless for receiver, _ in self._receivers) and all(
            running.node.gathers for running in self._nodes.values()
        )

    # Setting up

    def run(self) -> None:
        """Open, wait for the start, stream, close, and report each step to the supervisor."""
        try:
            self._open()
            if self._await_start():
                self._stream()
        finally:
            ended_ns = time.monotonic_ns()
            if self._real_time is not None:
                release_real_time()
            self._close()
        self._tell(messages.Done(self._statistics(), ended_ns))

    def _open(self) -> None:
        self._mark.phase(Mark.OPENING)
        sources = sum(isinstance(r.node, Source) for r in self._nodes.values())
        for running in self._nodes.values():
            context = Context(
                name=running.plan.name,
                inputs=running.inputs,
                run_dir=Path(self._setup.run_dir),
                counters=running.counters,
                pipeline=self._plan.name,
                pipeline_path=self._plan.path,
                alive=self._beat,
                status_address=f"{self._setup.prefix}status",
                linked=frozenset(
                    name
                    for name, out in running.outputs.items()
                    if out.senders or out.locals or out.views
                ),
                outputs=running.plan.outputs,
                alone=sources == 1 and not self._receivers,
                give_way=partial(self._give_way, running.plan.name),
            )
            running.opened = True
            self._calls.call(running, running.node.open, context)
            if running.failed:
                return

    def _await_start(self) -> bool:
        """Wait until the links are connected, say so, and return whether there is a start."""
        if any(running.failed for running in self._nodes.values()):
            return False
        gc.collect()
        gc.freeze()
        gc.disable()
        if self._group in self._plan.realtime:
            self._real_time = claim_real_time()
            if self._real_time:
                _log.warning("real-time priority was refused: %s", self._real_time)
        elif self._gathers:
            stand_back()
        self._mark.phase(Mark.STREAMING)
        ready = False
        while self._start is None and not self._stopped:
            self._waiter.wait(time.monotonic_ns() + BEAT_NS)
            for receiver, _ in self._receivers:
                receiver.greet()
            self._read_sockets()
            self._beat()
            if (
                not ready
                and all(s.connected for s in self._senders)
                and all(r.connected for r, _ in self._receivers)
            ):
                ready = True
                self._tell(messages.Ready())
        return self._start is not None

    def _give_way(self, node: str) -> None:
        """Let other processes go first, once all nodes of this one have no hurry."""
        if node in self._in_no_hurry:
            return
        self._in_no_hurry.add(node)
        if self._in_no_hurry == set(self._nodes) and self._real_time is None:
            give_way()

    # Streaming

    def _stream(self) -> None:
        assert self._start is not None
        if self._gathers:
            self._waiter = Waiter()
            self._waiter.add(self._control)
            for sender in self._senders:
                self._waiter.add(sender.back)
        for running in self._nodes.values():
            if isinstance(running.node, Source):
                if running.node.wakes is not None:
                    self._waiter.add_file(running.node.wakes)
                self._calls.call(running, running.node.start, self._start.start_ns)
        while True:
            # What has arrived comes first: the time from here to its node is part of its latency.
            next_ns = 0 if self._take() else _NEVER_NS
            due_ns, paced = self._tick()
            next_ns = min(next_ns, due_ns)
            self._read_sockets()
            self._arm()
            # Beats and collections come here, just after a packet, when the next one is furthest.
            self._beat()
            if self._finished():
                return
            self._collect(next_ns)
            beat_ns = self._beat_ns + 2 * BEAT_NS
            if paced and next_ns < beat_ns:
                self._await_deadline(next_ns)
            else:
                self._waiter.wait(min(next_ns, beat_ns))

    def _await_deadline(self, due_ns: int) -> None:
        """Wait for when a source is due, with everything awake that its packet will need."""
        if self._senders:
            if self._waiter.wait(due_ns - _KNOCK_NS):
                return
            for sender in self._senders:
                sender.knock()
        if not self._waiter.wait(due_ns - SPIN_NS):
            self._waiter.watch(due_ns)

    def _finished(self) -> bool:
        # Also what comes for a node that has failed is taken, or its sender would wait in vain.
        return (
            all(running.finished for running in self._nodes.values())
            and all(receiver.ended for receiver, _ in self._receivers)
            and all(sender.flushed for sender in self._senders)
        )

    def _read_sockets(self) -> None:
        """Read what comes back on links and from the supervisor, and give back what is free."""
        for sender in self._senders:
            sender.pump()
        for receiver, _ in self._receivers:
            receiver.give_back()
        self._read_control()

    def _tick(self) -> tuple[int, bool]:
        """Call what is due. Return when something is due next, and whether it is paced."""
        assert self._start is not None
        next_ns = _NEVER_NS
        paced = False
        for running in self._nodes.values():
            node, due_ns = running.node, self._due(running)
            if due_ns is not None and due_ns <= time.monotonic_ns():
                trackers = running.end_to_end.values()
                self._emit(running, self._calls.call(running, node.tick), trackers)
                due_ns = self._due(running)
            if due_ns is not None and due_ns < next_ns:
                next_ns, paced = due_ns, isinstance(node, Source) and node.wakes is None
        if self._start.stop_ns is not None and any(
            isinstance(r.node, Source) and not r.finished for r in self._nodes.values()
        ):
            next_ns = min(next_ns, max(self._start.stop_ns, time.monotonic_ns()))
        return next_ns, paced

    def _due(self, running: Running) -> int | None:
        """Return when a node is due, if ever; a source that has come to its end is finished."""
        if running.finished:
            return None
        due_ns = self._calls.due(running)
        if running.finished:
            return None
        if isinstance(running.node, Source) and self._ends(running.node, due_ns):
            self._finish(running)
            return None
        return due_ns

    def _ends(self, source: Node[Any], due_ns: int | None) -> bool:
        assert self._start is not None
        if self._stopped or getattr(source, "finished", False):
            return True
        stop_ns = self._start.stop_ns
        if stop_ns is None or time.monotonic_ns() < stop_ns:
            return False
        # A paced source that is late still emits what was due by the end, and at the end: what
        # covers the last moment of the run exists only then.
        return due_ns is None or due_ns > stop_ns

    def _take(self) -> bool:
        """Hand out what has arrived, for a while. Return whether there may be more."""
        more = False
        for receiver, running in self._receivers:
            turn_ns = time.monotonic_ns() + _TURN_NS
            while (packet := receiver.next()) is not None:
                self._process(running, receiver.link.stream, packet)
                receiver.done()
                # The array must be gone before the slots that it lies in are asked for.
                del packet
                one_by_one = not (receiver.lossless or self._gathers)
                if one_by_one or time.monotonic_ns() > turn_ns:
                    more = True
                    break
            if receiver.ended and receiver.link.stream in running.unfinished:
                self._input_ended(running, receiver.link.stream)
        return more

    def _process(self, running: Running, stream: str, packet: Packet) -> None:
        if running.failed:
            running.counters.drop("node_failed")
            return
        running.packets_in += 1
        running.gaps += packet.gap
        emitted = self._calls.call(running, running.node.process, stream, packet)
        if running.main_output is None:
            took_ns = time.monotonic_ns() - packet.t_ns
            for tracker in running.by_stream[stream]:
                tracker.add(took_ns, running.input_periods_ns[stream])
        else:
            self._emit(running, emitted, running.by_stream[stream])
        self._beat()

    def _emit(
        self, running: Running, packets: Iterable[Packet], trackers: Iterable[EndToEnd]
    ) -> None:
        for given in packets:
            output = running.outputs.get(given.output)
            try:
                if output is None:
                    raise InnervateError(f"it emitted on '{given.output}', which it has not got.")
                output.check(given)
                # A node may pass on the very packet that it was given, which others see too.
                packet = copy(given)
                packet.seq = output.seq
                now_ns = time.monotonic_ns()
                if output.senders:
                    self._send(output, output.senders, packet, now_ns)
            except InnervateError as error:
                self._fail(running, error)
                return
            output.seq += 1
            # What is counted is counted when the packet is on its way everywhere.
            for local in output.locals:
                took_ns = time.monotonic_ns() - now_ns
                self._process(local.target, output.stream, packet)
                local.packets += 1
                local.latency.add(took_ns)
            if output.views:
                try:
                    self._send(output, output.views, packet, time.monotonic_ns())
                except InnervateError as error:
                    self._fail(running, error)
                    return
            running.packets_out += 1
            if given.output == running.main_output:
                for tracker in trackers:
                    tracker.add(now_ns - packet.t_ns, output.period_ns)

    def _send(self, output: Output, senders: Sequence[Sender], packet: Packet, now_ns: int) -> None:
        slot = shared = None
        if output.slots is not None and packet.data.nbytes >= LARGE_BYTES:
            for sender in senders:
                sender.pump()
            if (place := output.slots.put(packet.data, len(senders))) is not None:
                slot, shared = place.slot, msgspec.structs.asdict(place)
        message = pack(self._token, packet, now_ns, shared)
        for sender in senders:
            while not sender.offer(message, slot):
                self._wait_for_room(sender)

    def _wait_for_room(self, sender: Sender) -> None:
        """Wait until a lossless link may have room, but stay in touch with the supervisor."""
        self._beat()
        waiter = Waiter()
        waiter.add(sender.back)
        waiter.add(self._control)
        waiter.wait(self._beat_ns + BEAT_NS)
        self._read_sockets()

    # The end of streams

    def _input_ended(self, running: Running, stream: str) -> None:
        running.unfinished.discard(stream)
        if not running.unfinished and not running.finished:
            self._finish(running)

    def _finish(self, running: Running) -> None:
        if not running.failed:
            self._mark.phase(Mark.CLOSING)
            emitted = self._calls.call(running, running.node.finish)
            self._mark.phase(Mark.STREAMING)
            self._emit(running, emitted, running.end_to_end.values())
        self._end_outputs(running)

    def _end_outputs(self, running: Running) -> None:
        if running.finished:
            return
        running.finished = True
        for output in running.outputs.values():
            for sender in (*output.senders, *output.views):
                sender.end(output.seq, time.monotonic_ns())
            for local in output.locals:
                self._input_ended(local.target, output.stream)

    def _close(self) -> None:
        self._mark.phase(Mark.CLOSING)
        for running in self._nodes.values():
            if running.opened:
                self._calls.call(running, running.node.close)
        for receiver, _ in self._receivers:
            receiver.close()
        for sender in self._senders:
            if self._start is None:
                sender.abandon()
            sender.close()

    def _fail(self, running: Running, error: BaseException) -> None:
        running.failed = True
        running.errors += 1
        _log.error("node '%s' failed", running.plan.name, exc_info=error)
        message = str(error) if isinstance(error, InnervateError) else ""
        message = message or f"{type(error).__name__}: {error}"
        self._tell(messages.Failed(running.plan.name, message))
        self._end_outputs(running)

    # The supervisor

    def _tell(self, message: messages.FromWorker) -> None:
        self._control.send(messages.encode(message))

    def _read_control(self) -> None:
        while readable(self._control):
            message = messages.to_worker.decode(self._control.recv(zmq.NOBLOCK))
            if isinstance(message, messages.Start):
                self._start = message
            elif isinstance(message, messages.Stop):
                self._stopped = True
            elif isinstance(message, messages.Lost):
                self._lose(message.groups)
            elif isinstance(message, messages.Arm):
                self._to_arm.append(message)

    def _arm(self) -> None:
        while self._to_arm:
            asked = self._to_arm.popleft()
            running = self._nodes[asked.node]
            late = abs(time.monotonic_ns() - asked.seen_ns) > RECENT_NS
            if asked.armed and late:
                _log.warning(
                    "'%s' stays as it is: %s asked to arm it, but that came too late; ask again",
                    asked.node, asked.by,
                )  # fmt: skip
            elif not running.finished:
                emitted = self._calls.call(running, running.node.arm, asked.armed, asked.by)
                self._emit(running, emitted, ())

    def _lose(self, groups: list[str]) -> None:
        for receiver, _ in self._receivers:
            if self._plan.nodes[receiver.link.source].group in groups:
                receiver.abandon()
        for sender in self._senders:
            if self._plan.nodes[sender.link.target].group in groups:
                sender.abandon()

    def _beat(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._beat_ns < BEAT_NS:
            return
        self._beat_ns = now_ns
        if os.getppid() != self._parent:
            # Nobody is left to report to, and nobody who would end this process.
            os._exit(1)
        statistics = None
        if now_ns - self._statistics_ns >= _STATISTICS_NS:
            statistics = self._statistics()
            self._statistics_ns = now_ns
        self._tell(messages.Beat(statistics))
        self._calls.skip()

    def _collect(self, next_ns: int) -> None:
        now_ns = time.monotonic_ns()
        idle = next_ns - now_ns > _IDLE_NS
        if now_ns - self._collected_ns > (_COLLECT_NS if idle else _COLLECT_LATEST_NS):
            gc.collect()
            self._collected_ns = now_ns
            self._calls.skip()

    def _statistics(self) -> dict[str, Any]:
        return worker_statistics(
            self._group, self._nodes, self._senders, self._receivers, self._real_time
        )


def main(group: str, address: str, mark_fd: int) -> None:
    """Run the worker of one group until the supervisor or the end of its streams ends it."""
    parent = os.getppid()
    prepare_process(group)
    token = os.environ[TOKEN_VARIABLE]
    mark = Mark(mmap(mark_fd, Mark.SIZE))
    with zmq.Context() as context:
        control = context.socket(zmq.DEALER)
        control.setsockopt(zmq.IDENTITY, group.encode())
        control.setsockopt(zmq.LINGER, 2000)
        control.connect(address)
        control.send(messages.encode(messages.Hello(token)))
        while not control.poll(1000):
            if os.getppid() != parent:
                return
        setup = messages.to_worker.decode(control.recv())
        if isinstance(setup, messages.Setup):
            Worker(group, setup, context, control, mark).run()
        else:
            control.send(messages.encode(messages.Done({}, time.monotonic_ns())))
        control.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
