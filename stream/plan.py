"""A validated pipeline: what `stream.pipeline` makes of a file and `stream.runtime` runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from stream.node import StreamSpec


@dataclass(frozen=True)
class Delivery:
    """How packets get over a link.

    Attributes
    ----------
    policy
        `lossless` waits for the receiver and drops nothing, `latest` keeps the newest packet only,
        `queue` keeps the newest `depth` packets and drops the oldest.
    max_age_s
        Older packets (now - `t_ns`) are dropped and counted at the receiver; None for any age.
    """

    policy: Literal["lossless", "latest", "queue"] = "lossless"
    depth: int = 1
    max_age_s: float | None = None


@dataclass(frozen=True)
class Link:
    """One stream into one node. `stream` is its full name: `node` or `node.output`."""

    stream: str
    source: str
    output: str
    target: str
    delivery: Delivery

    @property
    def name(self) -> str:
        """The link's name in reports, such as `probe->bins`."""
        return f"{self.stream}->{self.target}"


@dataclass(frozen=True)
class NodePlan:
    """One node: its class by `use`, checked settings as JSON values, its links and streams."""

    name: str
    use: str
    settings: dict[str, Any]
    group: str
    inputs: tuple[Link, ...]
    outputs: dict[str, StreamSpec]


@dataclass(frozen=True)
class Plan:
    """A pipeline that may run. Nodes stand in an order in which data can flow through them.

    `groups` maps a group to its nodes in that order. A node without a group has one of its own
    name. `realtime` names the groups whose processes ask for real-time priority.
    """

    name: str
    path: str
    nodes: dict[str, NodePlan]
    realtime: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Group name to the names of its nodes."""
        groups: dict[str, tuple[str, ...]] = {}
        for node in self.nodes.values():
            groups[node.group] = (*groups.get(node.group, ()), node.name)
        return groups

    @property
    def links(self) -> tuple[Link, ...]:
        """Every link of the pipeline."""
        return tuple(link for node in self.nodes.values() for link in node.inputs)
