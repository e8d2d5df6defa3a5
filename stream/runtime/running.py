"""A node while it runs: its links inside of the group, its outputs, and what is counted of it."""

from __future__ import annotations

from typing import Any

from stream.errors import InnervateError
from stream.node import Counters, Node, StreamSpec
from stream.packet import Packet
from stream.plan import Link, NodePlan, Plan
from stream.registry import make_node
from stream.runtime.latency import Latency
from stream.runtime.links import Sender
from stream.runtime.shared_memory import SlotWriter
from stream.units import to_ns


class EndToEnd:
    """Time from acquisition at a source to publication by a node, and how often it was too long."""

    def __init__(self) -> None:
        self.latency = Latency()
        self.deadlines_missed = 0

    def add(self, duration_ns: int, period_ns: int | None) -> None:
        """Count one publication in a stream of this period."""
        self.latency.add(duration_ns)
        if period_ns is not None and duration_ns > period_ns:
            self.deadlines_missed += 1


class Local:
    """A link inside of the group: a call."""

    def __init__(self, link: Link, target: Running) -> None:
        self.link = link
        self.target = target
        self.packets = 0
        self.latency = Latency()


class Output:
    """One stream that a node of this group emits.

    Attributes
    ----------
    senders, locals, views
        Where a packet goes, in this order: links to other groups, nodes of this group, and links
        to nodes that only watch, for which nothing else is to wait.
    """

    def __init__(self, stream: str, spec: StreamSpec) -> None:
        self.stream = stream
        self.spec = spec
        self.seq = 0
        self.senders: list[Sender] = []
        self.views: list[Sender] = []
        self.locals: list[Local] = []
        self.slots: SlotWriter | None = None
        self.period_ns = None if spec.period_s is None else to_ns(spec.period_s)

    def release(self, slot: int) -> None:
        """Take a slot back."""
        if self.slots is not None:
            self.slots.release(slot)

    def check(self, packet: Packet) -> None:
        """Refuse what is not what the pipeline was validated with."""
        if self.spec.misfit(packet):
            want = " x ".join("n" if size is None else str(size) for size in self.spec.shape)
            raise InnervateError(
                f"it emitted {packet.kind} of {packet.data.dtype} with shape {packet.data.shape}"
                f" on '{self.stream}', announced were {self.spec.kind} of {self.spec.dtype} with"
                f" shape ({want})."
            )


class Running:
    """A node while it runs."""

    def __init__(
        self, number: int, plan: NodePlan, whole: Plan, sources: dict[str, tuple[str, ...]]
    ) -> None:
        self.number = number
        self.plan = plan
        self.inputs = {
            link.stream: whole.nodes[link.source].outputs[link.output] for link in plan.inputs
        }
        self.input_periods_ns = {
            stream: None if spec.period_s is None else to_ns(spec.period_s)
            for stream, spec in self.inputs.items()
        }
        self.node: Node[Any] = make_node(plan.use, plan.settings)
        self.counters = Counters()
        self.opened = False
        self.finished = False
        self.failed = False
        self.packets_in = 0
        self.packets_out = 0
        self.gaps = 0
        self.errors = 0
        self.cpu_ns = 0
        self.unfinished = {link.stream for link in plan.inputs}
        self.outputs = {
            output: Output(f"{plan.name}.{output}" if output else plan.name, spec)
            for output, spec in plan.outputs.items()
        }
        self.main_output = next(iter(sorted(plan.outputs)), None)
        self.end_to_end = {source: EndToEnd() for source in sources[plan.name]}
        self.by_stream = {
            link.stream: [self.end_to_end[source] for source in sources[link.source]]
            for link in plan.inputs
        }


def upstream_sources(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return for each node the sources that its data comes from; for a source, itself."""
    sources: dict[str, tuple[str, ...]] = {}
    for name, node in plan.nodes.items():
        found = dict.fromkeys(s for link in node.inputs for s in sources[link.source])
        sources[name] = tuple(found) or (name,)
    return sources
