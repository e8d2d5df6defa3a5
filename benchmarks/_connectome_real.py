"""Graphs of rivers and of simulated fMRI, where the true edges are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.connectome.scores import auroc, score
from stream.connectome.associative import PartialCorrelation
from stream.connectome.granger import regress
from stream.connectome.statistics import Statistics, correlations
from stream.connectome.time_aware import TimeAwarePC


def rivers(folder: Path) -> list[dict[str, Any]]:
    """Score daily discharge of 31 gauges of the Danube against its course."""
    file = np.load(folder / "danube" / "danube_aligned.npz")
    discharge = np.log(file["discharge"].astype(np.float64))
    days = np.flatnonzero(np.isfinite(discharge).all(axis=1))
    change = np.diff(discharge[days[0] : days[-1] + 1], axis=0)
    truth = np.zeros((change.shape[1],) * 2, dtype=bool)
    truth[tuple((file["flow_edges_1based"] - 1).T)] = True
    rows: list[dict[str, Any]] = []
    for delay in (0, 1, 2, 3):
        statistics = Statistics.of(change, delay)
        name = "partial" + (", own past removed" if delay else "")
        rows.append(_row(name, delay, "skeleton", _pairs_auroc(_partial(statistics), truth)))
        if delay:
            off = ~np.eye(len(truth), dtype=bool)
            squares = regress(statistics).partial.reshape(delay, *truth.shape) ** 2
            directed = auroc(squares.sum(axis=0)[off], truth[off])
            rows.append(_row("VAR-Granger", delay, "direction, lagged", directed))
    graph = TimeAwarePC(0.01).estimate(Statistics.of(change, 1))
    either, true = graph.edges | graph.edges.T, truth | truth.T
    found = score(_upper(either), _upper(true))
    arrows = graph.edges & ~graph.edges.T & true
    rows.append({
        "method": "tpc, alpha .01", "delay": 1, "what": "skeleton, edges",
        "sensitivity": found.sensitivity, "false_positives": found.false_positives,
        "arrows_downstream": float((arrows & truth).sum() / max(arrows.sum(), 1)),
        "arrows": int(arrows.sum()),
    })  # fmt: skip
    return rows


def brains(folder: Path) -> list[dict[str, Any]]:
    """Score 28 simulated fMRI networks (Smith et al. 2011), pairs without direction."""
    found: dict[tuple[str, int], list[float]] = {}
    for number in range(1, 29):
        base = folder / "netsim_tcdf"
        series = np.loadtxt(base / f"timeseries{number}.csv", delimiter=",", skiprows=1)
        edges = np.loadtxt(base / f"sim{number}_gt.csv", delimiter=",", dtype=int, ndmin=2)
        truth = np.zeros((series.shape[1],) * 2, dtype=bool)
        truth[edges[:, 0], edges[:, 1]] = True
        plain = Statistics.of(series, 0)
        marginal = correlations(plain.cov)
        given = np.linalg.inv(marginal)
        given /= np.sqrt(np.outer(np.diag(given), np.diag(given)))
        for name, strength in (("correlation", marginal), ("partial, as it is", given)):
            found.setdefault((name, 0), []).append(_pairs_auroc(np.abs(strength), truth))
        for delay in (0, 1, 2, 3, 5):
            strength = _partial(Statistics.of(series, delay))
            found.setdefault(("partial", delay), []).append(_pairs_auroc(strength, truth))
    return [
        {**_row(name, delay, "pairs", float(np.mean(each))), "networks": len(each)}
        for (name, delay), each in found.items()
    ]


def _partial(statistics: Statistics) -> Any:
    # With so many days most p-values are 0 and would tie: the correlations themselves.
    return np.abs(PartialCorrelation(1.0).estimate(statistics).weights)


def _row(method: str, delay: int, what: str, value: float) -> dict[str, Any]:
    return {"method": method, "delay": delay, "what": what, "auroc": value}


def _upper(matrix: Any) -> Any:
    return matrix[np.triu_indices(len(matrix), 1)]


def _pairs_auroc(strength: Any, truth: Any) -> float:
    return auroc(_upper(strength), _upper(truth | truth.T))
