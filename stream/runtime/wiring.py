"""The nodes of one group and the links in, out and between them, as the plan says."""

from __future__ import annotations

from typing import Any, NamedTuple

import zmq

from stream.plan import Plan
from stream.registry import node_class
from stream.runtime.link_messages import fixed_bytes
from stream.runtime.links import Receiver, Sender
from stream.runtime.messages import Setup
from stream.runtime.running import Local, Running, upstream_sources
from stream.runtime.shared_memory import LARGE_BYTES, SlotWriter

_RESERVED_SLOTS = 3


class Wiring(NamedTuple):
    """Nodes by name, and the ends of links to other groups; a receiver with its node."""

    nodes: dict[str, Running]
    senders: list[Sender]
    receivers: list[tuple[Receiver, Running]]


def wire(group: str, plan: Plan, setup: Setup, context: zmq.Context[Any]) -> Wiring:
    """Make the nodes of a group, bind its ends of links and connect them to the others."""
    sources = upstream_sources(plan)
    wiring = Wiring({}, [], [])
    for number, node in enumerate(plan.nodes.values()):
        if node.group == group:
            wiring.nodes[node.name] = Running(number, node, plan, sources)
    token = bytes.fromhex(setup.token)
    for number, link in enumerate(plan.links):
        source, target = wiring.nodes.get(link.source), wiring.nodes.get(link.target)
        address = f"{setup.prefix}{number}"
        spec = plan.nodes[link.source].outputs[link.output]
        fd = setup.shared.get(link.stream)
        if source is not None and target is not None:
            source.outputs[link.output].locals.append(Local(link, target))
        elif source is not None:
            output = source.outputs[link.output]
            if fd is not None and output.slots is None:
                output.slots = SlotWriter(fd)
            sender = Sender(
                context, address, link=link, spec=spec, token=token, release=output.release
            )
            # An array in shared memory is written once, for all of its links.
            watches = node_class(plan.nodes[link.target].use).delivery not in ("", "lossless")
            later = watches and fixed_bytes(spec) < LARGE_BYTES
            (output.views if later else output.senders).append(sender)
            wiring.senders.append(sender)
        elif target is not None:
            receiver = Receiver(context, address, link=link, spec=spec, token=token, shared_fd=fd)
            wiring.receivers.append((receiver, target))
    for running in wiring.nodes.values():
        for output in running.outputs.values():
            # A link that has to wait must not keep a packet from those that never do.
            output.senders.sort(key=lambda s: s.link.delivery.policy == "lossless")
            nbytes = fixed_bytes(output.spec)
            if output.slots is not None and nbytes >= LARGE_BYTES:
                output.slots.reserve(nbytes, len(output.senders) + _RESERVED_SLOTS)
    return wiring
