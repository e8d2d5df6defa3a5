"""What a worker tells its supervisor of its nodes and links."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Mapping
from typing import Any

from stream.node import Source
from stream.runtime.links import Receiver, Sender
from stream.runtime.running import Running


def worker_statistics(
    group: str,
    nodes: Mapping[str, Running],
    senders: Iterable[Sender],
    receivers: Iterable[tuple[Receiver, Running]],
    real_time: str | None,
) -> dict[str, Any]:
    """Return what has been counted so far; `report.assemble` joins that of all workers.

    `real_time` is what `claim_real_time` returned, None where nobody asked for it.
    """
    errors: dict[str, int] = {}
    sent: dict[str, Any] = {}
    received: dict[str, Any] = {}
    for sender in senders:
        sent[sender.link.name] = {"sent": sender.sent, "dropped": sender.dropped}
    for receiver, running in receivers:
        name = running.plan.name
        errors[name] = errors.get(name, 0) + receiver.refused
        received[receiver.link.name] = {
            **receiver.latency.summary(),
            "packets": receiver.packets,
            "dropped": receiver.dropped,
            "missing": receiver.missing,
            "refused": receiver.refused,
        }
    for running in nodes.values():
        for output in running.outputs.values():
            for local in output.locals:
                received[local.link.name] = {
                    **local.latency.summary(),
                    "packets": local.packets,
                    "dropped": 0,
                    "missing": 0,
                    "refused": 0,
                }
    return {
        "nodes": {
            name: {
                "packets_in": running.packets_in,
                "packets_out": running.packets_out,
                "dropped": dict(running.counters.dropped),
                "gaps": running.gaps,
                "errors": running.errors + errors.get(name, 0),
                "restarts": 0,
                "cpu_s": running.cpu_ns / 1e9,
                "notes": dict(running.counters.notes),
            }
            for name, running in nodes.items()
        },
        "sent": sent,
        "received": received,
        "end_to_end": {
            f"{source}->{name}": {
                **tracker.latency.summary(),
                "packets": tracker.latency.count,
                "deadlines_missed": tracker.deadlines_missed,
            }
            for name, running in nodes.items()
            for source, tracker in running.end_to_end.items()
        },
        "sources_ended": all(
            running.finished for running in nodes.values() if isinstance(running.node, Source)
        ),
        "processes": {group: _process(real_time)},
    }


def _process(real_time: str | None) -> dict[str, Any]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    process: dict[str, Any] = {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "max_rss_bytes": _max_rss_bytes(usage.ru_maxrss),
    }
    if real_time is not None:
        process["realtime"] = f"refused: {real_time}" if real_time else "granted"
    return process


def _max_rss_bytes(maxrss_kib: int) -> int:
    """Return the most memory that this process had."""
    try:
        # On Linux `ru_maxrss` begins with what the supervisor had when it started this process.
        with open("/proc/self/status") as status:
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return maxrss_kib * 1024
