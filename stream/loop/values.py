"""From a packet to the values that a rule compares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.loop.rules import Rule
from stream.node import StreamSpec
from stream.packet import Packet

Values = NDArray[np.float64]
"""What a rule compares: one value, or one for each channel (n,); NaN where there is none."""

Read = Callable[[Packet], Values]

ACTION = "action"
"""The kind whose packets carry `label` and `probability` in their `meta`."""
_SHOWN = 12


def reader(stream: str, spec: StreamSpec, rule: Rule) -> tuple[Read, tuple[str, ...]]:
    """Return what reads the values of a rule from a packet, and the names of these values.

    A packet of many samples counts by its extreme: the highest, for `below` the lowest, and for
    `rises` and `falls` the last one. Spikes count by their number in the packet, and a graph by
    how much it has changed.

    Raises
    ------
    ConfigError
        The stream has no such channel or label, or no values that can be compared.
    """
    if rule.label is not None:
        return _label(stream, spec, rule.label), (rule.label,)
    if spec.kind == "graph":
        _refuse_selection(stream, "is one value, how much the graph has changed", rule)
        return _change, ("change",)
    read = _reader(stream, spec, rule)
    if rule.mean:
        return read, ("mean",)
    if rule.channel is None:
        return read, spec.names or tuple(str(n) for n in range(spec.shape[-1] or 0))
    at = _place(stream, spec, "channel", rule.channel)
    return lambda packet: read(packet)[at : at + 1], (rule.channel,)


def _reader(stream: str, spec: StreamSpec, rule: Rule) -> Read:
    if spec.kind == "spikes":
        if rule.mean:
            raise ConfigError(f"mean: '{stream}' carries spikes, which have no mean; bin them.")
        return _Spikes(len(spec.names)).read
    if spec.kind == "samples" and len(spec.shape) == 2:
        return _Samples(rule).read
    if len(spec.shape) == 1:
        return _mean if rule.mean else _values
    raise ConfigError(
        f"'{stream}' carries {spec.kind} of shape {list(spec.shape)}, which no rule can compare;"
        " link a stream of one value a name."
    )


def _values(packet: Packet) -> Values:
    values: Values = packet.data.astype(np.float64)
    return values


def _mean(packet: Packet) -> Values:
    mean: Values = packet.data.mean(keepdims=True, dtype=np.float64)
    return mean


def _change(packet: Packet) -> Values:
    return np.array([packet.meta.get("change", np.nan)], np.float64)


class _Samples:
    """Reads one row from packets of samples (samples, channels)."""

    def __init__(self, rule: Rule) -> None:
        self._mean = rule.mean
        extremes: dict[str, np.ufunc] = {"above": np.fmax, "below": np.fmin}
        self._extreme = extremes.get(rule.condition)

    def read(self, packet: Packet) -> Values:
        rows = packet.data.astype(np.float64)
        if self._mean:
            rows = rows.mean(axis=1, keepdims=True)
        if not len(rows):
            return np.full(rows.shape[1], np.nan)
        return rows[-1] if self._extreme is None else np.asarray(self._extreme.reduce(rows))


class _Spikes:
    """Counts the spikes of each unit in a packet."""

    def __init__(self, units: int) -> None:
        self._units = units

    def read(self, packet: Packet) -> Values:
        counts = np.bincount(packet.data[:, 1], minlength=self._units)
        return counts[: self._units].astype(np.float64)


def _label(stream: str, spec: StreamSpec, label: str) -> Read:
    if spec.kind != ACTION:
        raise ConfigError(
            f"label: '{stream}' carries {spec.kind}, not labels; use 'channel' to look at a class."
        )
    _place(stream, spec, "label", label)

    def read(packet: Packet) -> Values:
        holds = packet.meta.get("label") == label
        return np.array([packet.meta.get("probability", np.nan) if holds else 0.0], np.float64)

    return read


def _place(stream: str, spec: StreamSpec, key: str, name: str) -> int:
    if name in spec.names:
        return spec.names.index(name)
    shown = ", ".join(spec.names[:_SHOWN]) or "none with a name"
    more = f" and {len(spec.names) - _SHOWN} more" if len(spec.names) > _SHOWN else ""
    raise ConfigError(f"{key}: '{stream}' has no '{name}'; it has {shown}{more}.")


def _refuse_selection(stream: str, why: str, rule: Rule) -> None:
    for key in ("channel", "mean"):
        if getattr(rule, key):
            raise ConfigError(f"{key}: '{stream}' {why}; leave it out.")
