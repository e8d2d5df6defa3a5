"""The counters and latencies of a run for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stream.errors import ConfigError, MissingExtraError
from stream.page.server import HOST

if TYPE_CHECKING:
    from prometheus_client import Metric

_NODE_COUNTERS = {
    "packets_in": "Packets that a node took.",
    "packets_out": "Packets that a node emitted.",
    "gaps": "Packets missing from what a node read.",
    "errors": "Errors of a node.",
}
_LINK_COUNTERS = {
    "packets": "Packets that a link handed over.",
    "dropped": "Packets that a link dropped, as its policy says.",
    "lost": "Packets that a link lost otherwise.",
}
_QUANTILES = {"0.5": "p50_us", "0.99": "p99_us", "0.999": "p999_us", "1": "max_us"}


class RunCollector:
    """Turns the newest status of a run into metrics; `status` is set from outside."""

    def __init__(self) -> None:
        self.status: Mapping[str, Any] = {}

    def collect(self) -> Iterable[Metric]:
        """Yield every metric; Prometheus' client calls this when it is asked."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        status = self.status
        if not status:
            return
        state = GaugeMetricFamily(
            "innervate_run_state", "1 for the state that the run is in.", labels=["state"]
        )
        for name in ("starting", "running", "stopping", "ended"):
            state.add_metric([name], float(status["state"] == name))
        yield state
        yield GaugeMetricFamily(
            "innervate_run_seconds", "Time since the start.", value=status["duration_s"]
        )
        nodes, links = status["nodes"], status["links"]
        for key, text in _NODE_COUNTERS.items():
            family = CounterMetricFamily(f"innervate_node_{key}", text, labels=["node"])
            for name, node in nodes.items():
                family.add_metric([name], node[key])
            yield family
        refused = CounterMetricFamily(
            "innervate_node_refused", "Packets that a node refused.", labels=["node", "reason"]
        )
        cpu = CounterMetricFamily("innervate_node_cpu_seconds", "CPU time.", labels=["node"])
        failed = GaugeMetricFamily(
            "innervate_node_failed", "1 for a node that failed, died or hung.", labels=["node"]
        )
        for name, node in nodes.items():
            for reason, count in node["dropped"].items():
                refused.add_metric([name, reason], count)
            cpu.add_metric([name], node["cpu_s"])
            failed.add_metric([name], float(name in status["failed"]))
        yield from (refused, cpu, failed)
        for key, text in _LINK_COUNTERS.items():
            family = CounterMetricFamily(f"innervate_link_{key}", text, labels=["link"])
            for name, link in links.items():
                family.add_metric([name], link[key])
            yield family
        yield from self._latencies(links, status["end_to_end"])

    @staticmethod
    def _latencies(
        links: Mapping[str, Mapping[str, Any]], ways: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        hop = GaugeMetricFamily(
            "innervate_link_latency_seconds",
            "From leaving one node to being handed to the next, since the start.",
            labels=["link", "quantile"],
        )
        for name, link in links.items():
            for quantile, key in _QUANTILES.items():
                hop.add_metric([name, quantile], link[key] / 1e6)
        yield hop
        whole = GaugeMetricFamily(
            "innervate_end_to_end_latency_seconds",
            "From acquisition at a source to publication by a node, since the start.",
            labels=["source", "node", "quantile"],
        )
        late = CounterMetricFamily(
            "innervate_deadlines_missed", "Published later than one period of the stream.",
            labels=["source", "node"],
        )  # fmt: skip
        for name, way in ways.items():
            ends = name.split("->")
            for quantile, key in _QUANTILES.items():
                whole.add_metric([*ends, quantile], way[key] / 1e6)
            late.add_metric(ends, way["deadlines_missed"])
        yield from (whole, late)


@contextmanager
def serving_metrics(port: int | None) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Serve metrics to this host at a port; yield what takes each status of the run.

    Without a port, nothing is served.

    Raises
    ------
    MissingExtraError
        The client library of Prometheus is not installed.
    ConfigError
        The port is taken, or may not be used.
    """
    if port is None:
        yield lambda status: None
        return
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ModuleNotFoundError:
        raise MissingExtraError("--metrics", "page") from None
    collector, registry = RunCollector(), CollectorRegistry()
    registry.register(collector)  # type: ignore[arg-type]
    try:
        server, thread = start_http_server(port, addr=HOST, registry=registry)
    except OSError as error:
        raise ConfigError(
            f"--metrics: port {port} cannot be used ({error.strerror}); choose another number."
        ) from None

    def count(status: dict[str, Any]) -> None:
        collector.status = status

    try:
        yield count
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
