"""Puts a page into a pipeline that was written without one, and finds out its address."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

from stream.errors import ConfigError
from stream.node import StreamSpec
from stream.page.page import Page
from stream.page.panels.kinds import panel_class
from stream.page.server import address, bind, check_server, new_token
from stream.plan import Delivery, Link, NodePlan, Plan
from stream.runtime.link_messages import fixed_bytes
from stream.runtime.shared_memory import LARGE_BYTES
from stream.vision.page import address_of

# What comes between two updates, or while the page's process is busy for a moment; older packets
# are dropped and counted. A queue is also kinder to the sender than `latest`, which is woken for
# room after each packet.
_EVENTS = Delivery("queue", 256)
_SMALL = Delivery("queue", 64)
_LARGE = Delivery("latest")
# Its class would be the import of all of vision.
_OVERLAY = "overlay"


def add_page(plan: Plan) -> Plan:
    """Return the plan with a node `page` in a process of its own, linked to all that can be shown.

    A plan that has one is returned as it is.

    Raises
    ------
    ConfigError
        No stream of the pipeline can be shown.
    MissingExtraError
        The library for WebSockets is not installed.
    """
    if any(node.use == Page.use for node in plan.nodes.values()):
        return plan
    check_server(0)
    taken = {*plan.nodes, *plan.groups}
    name = next(n for n in ("page", *(f"page-{i}" for i in range(2, 99))) if n not in taken)
    links = []
    wanted = {link.stream for link in plan.links}
    for node in plan.nodes.values():
        for output, spec in node.outputs.items():
            stream = f"{node.name}.{output}" if output else node.name
            # Some sources make samples only where they are taken: looking must not add that work.
            idle = spec.kind == "samples" and output and stream not in wanted
            if _can_show(spec) and not idle:
                links.append(Link(stream, node.name, output, name, _delivery(spec)))
    if not links:
        raise ConfigError(
            f"--page: no stream of {plan.path} can be shown; 'innervate check' lists its streams."
        )
    page = NodePlan(
        name=name, use=Page.use, settings=Page.Settings().model_dump(mode="json"), group=name,
        inputs=tuple(links), outputs={},
    )  # fmt: skip
    return replace(plan, nodes={**plan.nodes, name: page})


def settle_pages(plan: Plan) -> tuple[Plan, dict[str, str]]:
    """Return the plan with port and token of each page decided, and their addresses by node.

    Pages of `overlay` are among the addresses; their ports are decided by the pipeline file.

    Raises
    ------
    ConfigError
        A port is taken.
    """
    nodes, found = dict(plan.nodes), {}
    for node in plan.nodes.values():
        if node.use == _OVERLAY and node.settings.get("page"):
            found[node.name] = address_of(node.settings["page"])
        if node.use != Page.use:
            continue
        with bind(node.settings["port"]) as probe:
            port = probe.getsockname()[1]
        token = node.settings["token"] or new_token()
        nodes[node.name] = replace(node, settings={**node.settings, "port": port, "token": token})
        found[node.name] = address(port, token)
    return replace(plan, nodes=nodes), found


def _delivery(spec: StreamSpec) -> Delivery:
    cls = panel_class(spec)
    large = fixed_bytes(spec) >= LARGE_BYTES
    if cls is not None and cls.event:
        return _SMALL if large else _EVENTS
    return _LARGE if large else _SMALL


def _can_show(spec: StreamSpec) -> bool:
    there = spec.kind != "frame" or importlib.util.find_spec("cv2") is not None
    return there and panel_class(spec) is not None
