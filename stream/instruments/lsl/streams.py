"""Which streams there are on the network, and what they say of themselves."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stream.errors import ConfigError

_LOOKED_S = 5.0
_PAUSE_S = 0.02
_SETTLED_S = 1.0
_DESCRIPTION_S = 5.0
_SHOWN = 20
_CHANNELS = 65_536
_FORMATS = (
    "undefined", "float32", "double64", "string", "int32", "int16", "int8", "int64",
)  # fmt: skip
# MNE writes powers of ten of what the type of a channel is measured in.
_MICROVOLTS = frozenset({"uv", "µv", "μv", "microvolt", "microvolts", "-6"})
_NO_UNIT = frozenset({"none", "0"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What a stream has to be called; what is None may be anything."""

    name: str | None
    type: str | None
    source_id: str | None

    def matches(self, info: Any) -> bool:
        """Whether a resolved stream is one that is wanted."""
        return (
            self.name in (None, info.name())
            and self.type in (None, info.type())
            and self.source_id in (None, info.source_id())
        )

    def __str__(self) -> str:
        given = (("name", self.name), ("type", self.type), ("source_id", self.source_id))
        return ", ".join(f"{key} '{value}'" for key, value in given if value is not None)


@dataclass(frozen=True)
class Layout:
    """What a stream carries.

    Attributes
    ----------
    channels
        Number of values in a sample.
    rate_hz
        Nominal samples a second; 0 for an irregular stream.
    format
        Of a value: `float32`, `double64`, `int8` to `int64`, `string`.
    labels, unit
        Names of the channels, and their physical unit where all have the same.
    units
        Of a stream of spikes: each unit that it lists, with how its samples call it
        (`CHANNEL-UNIT`) and its name.
    """

    channels: int
    rate_hz: float
    format: str
    labels: tuple[str, ...] = ()
    unit: str = ""
    units: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        rate = f"{self.rate_hz:g} Hz" if self.rate_hz else "no fixed rate"
        return f"{self.channels} channels of {self.format} at {rate}"


def find(pylsl: Any, wanted: Wanted, *, settle: bool) -> Any:
    """Look for a stream for up to 5 s and return its short description (`pylsl.StreamInfo`).

    With `settle`, others of the same name have a second to answer as well.

    Raises
    ------
    ConfigError
        None is called so, and the message says which there are; or several are.
    """
    resolver = pylsl.ContinuousResolver()
    end_s = time.monotonic() + _LOOKED_S
    settled = False
    while time.monotonic() < end_s:
        time.sleep(_PAUSE_S)
        seen = distinct(resolver.results())
        found = [info for info in seen if wanted.matches(info)]
        if found and (settled or not settle):
            return only(found, wanted)
        if found:
            # Another of the same name may answer later: known peers are asked half a second on.
            settled, end_s = True, time.monotonic() + _SETTLED_S + 1.0
            time.sleep(_SETTLED_S)
    there = "no stream at all"
    if seen:
        there = "; ".join(sorted(introduce(info) for info in seen)[:_SHOWN])
        there += "; ..." if len(seen) > _SHOWN else ""
    raise ConfigError(
        f"no LSL stream with {wanted} is on this network; there is {there}. Start its sender, or"
        " change name, type or source_id."
    )


def distinct(infos: Sequence[Any]) -> list[Any]:
    """Return each outlet once, though it answers on every network."""
    return list({info.uid(): info for info in infos}.values())


def only(found: Sequence[Any], wanted: Wanted) -> Any:
    """Return the one stream that was found.

    Raises
    ------
    ConfigError
        There are several, so that it would be chance which one is taken.
    """
    if len(found) == 1:
        return found[0]
    what = "; ".join(sorted(introduce(info) for info in found)[:_SHOWN])
    apart = len({info.source_id() for info in found}) == len(found)
    do = "set source_id to the one that is meant" if apart else "stop all but one of them"
    raise ConfigError(f"{len(found)} LSL streams have {wanted}: {what}; {do}.")


def introduce(info: Any) -> str:
    """Return how a stream is called, for messages."""
    return (
        f"'{info.name()}' (type '{info.type()}', source_id '{info.source_id()}',"
        f" on {info.hostname()}: {layout_of(info)})"
    )


def layout_of(info: Any) -> Layout:
    """Read what a stream carries, from its short description or its whole one.

    Channel labels that are missing or not unique are replaced by `ch1`, `ch2` and so on.
    """
    channels = info.channel_count()
    labels: tuple[str, ...] = ()
    unit = ""
    named = [
        (channel.child_value("label"), channel.child_value("unit"))
        for channel in _children(info.desc().child("channels"), "channel")
    ]
    if len(named) == channels:
        labels = tuple(label for label, _ in named)
        if not all(labels) or len(set(labels)) != channels:
            labels = ()
        units = {u for _, u in named}
        unit = units.pop() if len(units) == 1 else ""
    return Layout(
        channels=channels,
        rate_hz=info.nominal_srate(),
        format=_FORMATS[info.channel_format()],
        labels=labels or tuple(f"ch{k + 1}" for k in range(channels)),
        unit=_unit(unit),
        units=tuple(
            (f"{u.child_value('channel')}-{u.child_value('number')}", u.child_value("label"))
            for u in _children(info.desc().child("units"), "unit")
        ),
    )


def describe(inlet: Any) -> Layout:
    """Ask an inlet for the whole description of its stream.

    Raises
    ------
    ConfigError
        The sender does not answer, or gives no sensible description.
    """
    from pylsl.util import LostError
    from pylsl.util import TimeoutError as LslTimeoutError

    try:
        info = inlet.info(_DESCRIPTION_S)
        layout = layout_of(info)
    except (LostError, LslTimeoutError, RuntimeError) as error:
        raise ConfigError(
            f"the sender of an LSL stream does not describe it ({error or type(error).__name__});"
            " is a firewall between here and there?"
        ) from None
    if not (0 < layout.channels <= _CHANNELS and 0 <= layout.rate_hz <= 1e6):
        raise ConfigError(f"{introduce(info)} is no stream that can be read.")
    return layout


def _unit(text: str) -> str:
    if text.lower() in _MICROVOLTS:
        return "uV"
    return "" if text.lower() in _NO_UNIT else text


def _children(parent: Any, name: str) -> list[Any]:
    found: list[Any] = []
    child = parent.child(name)
    while not child.empty() and len(found) < _CHANNELS:
        found.append(child)
        child = child.next_sibling(name)
    return found
