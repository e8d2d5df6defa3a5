"""Which panel shows a stream."""

from __future__ import annotations

from stream.node import StreamSpec
from stream.page.panels.decoded import Label, Trajectory, Triggers
from stream.page.panels.heard import Roll
from stream.page.panels.neurons import Heat, Matrix, Raster
from stream.page.panels.panel import Panel
from stream.page.panels.seen import Skeleton, Video
from stream.page.panels.traces import Traces
from stream.vision.layouts import LAYOUTS

_BY_KIND: dict[str, type[Panel]] = {
    "spikes": Raster, "counts": Raster, "rates": Heat, "behaviour": Trajectory, "action": Label,
    "probabilities": Label, "skeleton": Skeleton, "keypoints": Skeleton, "frame": Video,
    "notes": Roll, "graph": Matrix, "trigger": Triggers, "levels": Triggers, "samples": Traces,
}  # fmt: skip
KINDS = tuple(_BY_KIND)
"""Kinds of streams that the page shows."""
_AXES = {
    "spikes": 2, "samples": 2, "notes": 2, "frame": 3, "graph": 3, "skeleton": (2, 3),
    "keypoints": (2, 3),
}  # fmt: skip
_NAMED = ("action", "probabilities", "trigger", "levels")
_VARYING = ("spikes", "samples", "notes")


def panel_class(spec: StreamSpec) -> type[Panel] | None:
    """Return what shows a stream, None when nothing does."""
    cls, axes = _BY_KIND.get(spec.kind), _AXES.get(spec.kind, 1)
    if cls is None or len(spec.shape) not in (axes if isinstance(axes, tuple) else (axes,)):
        return None
    if None in spec.shape and spec.kind not in _VARYING:
        return None
    if cls is Traces and not _has_rate_and_channels(spec):
        return None
    if cls is Skeleton and (spec.shape[-1] != 3 or str(spec.meta.get("layout", "")) not in LAYOUTS):
        return None
    if spec.kind in _NAMED and len(spec.names) != spec.shape[0]:
        return None
    return cls


def _has_rate_and_channels(spec: StreamSpec) -> bool:
    rate = spec.meta.get("rate_hz")
    return bool(spec.shape[1]) and isinstance(rate, int | float) and rate > 0
