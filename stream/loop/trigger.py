"""`trigger`: rules on streams, which fire when their condition becomes true."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from stream.errors import ConfigError
from stream.loop.conditions import Condition, Gate
from stream.loop.firing_log import FiringLog
from stream.loop.freshness import Freshness, OutputSettings
from stream.loop.rules import Limit, Rule, amount_in, parse_limit, read_rules
from stream.loop.values import Read, reader
from stream.node import Context, Counters, Node, StreamSpec
from stream.packet import Packet
from stream.units import Seconds, to_ns

_log = logging.getLogger(__name__)

TRIGGER, LEVELS = "trigger", "levels"
_ARMED = "armed"


def disarms(packet: Packet) -> bool:
    """Tell whether a packet of `trigger` says that it has just been disarmed."""
    return packet.meta.get(_ARMED) is False


class TriggerSettings(OutputSettings):
    """Settings of `trigger`."""

    rules: Annotated[dict[str, Rule], BeforeValidator(read_rules)] = Field(
        description="rules by name, such as {fast: {channel: u12, above: 40 Hz, release: 30 Hz}}"
    )
    refractory: Seconds = Field(
        0.0, ge=0, description="shortest time between two firings of a rule"
    )
    limit: Limit | None = Field(None, description="how often a rule may fire, such as 5 per 1 s")
    armed: bool = Field(
        False,
        description="whether firings go out at first; if not, they are logged and counted only",
    )


@dataclass
class _Watched:
    """A rule at work."""

    name: str
    number: int
    stream: str
    read: Read
    names: tuple[str, ...]
    condition: Condition
    gate: Gate
    of_spikes: bool
    level: bool = False
    counted: dict[str, int] = field(default_factory=dict)

    def reset(self) -> None:
        """Forget the past, but not when it fired last."""
        self.condition.reset()
        self.level = False

    def count(self, what: str, counters: Counters) -> None:
        self.counted[what] = self.counted.get(what, 0) + 1
        counters.note(self.name, dict(self.counted))


class Trigger(Node[TriggerSettings]):
    """Fires when a rule's condition becomes true on data that are fresh.

    Gives a packet for each one that comes: kind `trigger`, uint8 (rules,), 1 where a rule fires
    now; and on `.state`, kind `levels`, uint8 (rules,), 1 from a firing until its condition is
    released. Both carry the times of the data that caused them, and `fired` in the `meta` of the
    first names the rules.

    A firing is held back, but logged with its reason, when the data are older than `max_age`
    (`too_old`), too soon after the last one (`refractory`), one too many (`limit`), or while the
    trigger is not armed. What is not finite never fires and is counted by rule. A stream that
    stalls, and a new segment, release the rules that look at it.

    It may be armed and disarmed at any time. `.armed`, kind `levels`, has a packet with the first
    data and with every switch; the packets of the other two at which it is disarmed have `armed`
    in their `meta`, so that outputs go to their safe state.
    """

    use = "trigger"
    summary = "fires by rules on streams: thresholds, changes, labels; armed or dry, logged"
    Settings = TriggerSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"*"})
    max_inputs: ClassVar[int | None] = None
    can_arm: ClassVar[bool] = True

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the streams of firings, of levels, and of whether it is armed.

        Raises
        ------
        ConfigError
            A rule looks at what is not there; a stream is linked that no rule looks at.
        """
        looked_at = {watched.stream for watched in self._watch(inputs)}
        if idle := [stream for stream in inputs if stream not in looked_at]:
            raise ConfigError(
                f"rules: '{idle[0]}' is linked, but no rule looks at it; leave it out of 'from'."
            )
        names = tuple(self.settings.rules)
        specs = list(inputs.values())
        period_s = specs[0].period_s if len(specs) == 1 else None
        return {
            "": StreamSpec(TRIGGER, (len(names),), "uint8", names, "", period_s),
            "state": StreamSpec(LEVELS, (len(names),), "uint8", names, "", period_s),
            _ARMED: StreamSpec(LEVELS, (1,), "uint8", (_ARMED,), meta={"on_change": True}),
        }

    def open(self, context: Context) -> None:
        """Begin with every rule released, and open the log.

        Raises
        ------
        ConfigError
            The log cannot be written.
        """
        super().open(context)
        self._fresh = Freshness(self.settings, context)
        self._rules: dict[str, list[_Watched]] = {stream: [] for stream in context.inputs}
        for watched in self._watch(context.inputs):
            self._rules[watched.stream].append(watched)
        # Segment and end of the last packet of each stream, and of the last of all.
        self._last: dict[str, tuple[int, int]] = {}
        self._newest: tuple[int, int] | None = None
        self._armed = self.settings.armed
        self._switched = 0
        self._n = len(self.settings.rules)
        path = context.run_dir / f"{context.name}.firings.jsonl"
        try:
            self._log = FiringLog(path)
        except OSError as error:
            raise ConfigError(f"the log of firings, {path}, cannot be made: {error}.") from None
        context.counters.note(_ARMED, self._armed)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Ask the rules of a stream, and say which of them fire."""
        fresh = self._fresh.take(stream, packet)
        rules = self._rules[stream]
        if self._last.get(stream, (packet.segment, 0))[0] != packet.segment:
            for watched in rules:
                watched.reset()
        first = self._newest is None
        self._last[stream] = self._newest = packet.segment, packet.source_end_ns
        fires = np.zeros(self._n, np.uint8)
        known = [
            watched.number for watched in rules if self._ask(watched, packet, fires, fresh=fresh)
        ]
        levels = self._levels()
        # What rests on old data, or on none, is not held up.
        levels[[w.number for w in rules if not fresh or w.number not in known]] = 0
        fired = {"fired": [w.name for w in rules if fires[w.number]]} if fires.any() else None
        out = [
            packet.derive(TRIGGER, fires, meta=fired),
            packet.derive(LEVELS, levels, output="state"),
        ]
        if first:
            out.append(packet.derive(LEVELS, np.array([self._armed], np.uint8), output=_ARMED))
        return out

    def due_ns(self) -> int | None:
        """Return when a stream will have stalled."""
        return self._fresh.due_ns()

    def tick(self) -> Iterable[Packet]:
        """Release the rules whose stream has stalled, and say so."""
        emitted = []
        now_ns = time.monotonic_ns()
        for stream in self._fresh.stalls():
            for watched in self._rules[stream]:
                watched.reset()
            if stream in self._last:
                segment, at_ns = self._last[stream]
                emitted.append(
                    Packet(LEVELS, self._levels(), now_ns, at_ns, at_ns, segment, output="state")
                )
        return emitted

    def arm(self, armed: bool, by: str) -> Iterable[Packet]:
        """Let firings out from now on, or hold them back and release every rule."""
        if armed == self._armed:
            return []
        self._armed = armed
        self._switched += 1
        now_ns = time.monotonic_ns()
        note = self.context.counters.note
        note(_ARMED, armed)
        note("switched", self._switched)
        done = "armed" if armed else "disarmed"
        _log.warning("%s: %s by %s", self.context.name, done, by)
        self._write({"t_ns": now_ns, "armed": armed, "by": by})
        segment, at_ns = self._newest or (0, 0)
        out = []
        if not armed:
            for rules in self._rules.values():
                for watched in rules:
                    watched.level = False
            none = np.zeros(self._n, np.uint8)
            out = [
                Packet(
                    kind, none, now_ns, at_ns, at_ns, segment, output=output, meta={_ARMED: False}
                )
                for kind, output in ((TRIGGER, ""), (LEVELS, "state"))
            ]
        if self._newest is not None:
            level = np.array([armed], np.uint8)
            out.append(Packet(LEVELS, level, now_ns, at_ns, at_ns, segment, output=_ARMED))
        return out

    def close(self) -> None:
        """Close the log."""
        if (log := getattr(self, "_log", None)) is not None:
            del self._log
            log.close()

    def _ask(
        self, watched: _Watched, packet: Packet, fires: NDArray[np.uint8], *, fresh: bool
    ) -> bool:
        """Ask one rule, mark it where it fires, and return whether it had a value to look at."""
        condition = watched.condition
        if watched.of_spikes:
            # Spikes are moments: each packet with some is a new one.
            condition.active = False
        was_active = condition.active
        values = watched.read(packet)
        if not np.isfinite(values).all():
            watched.count("not_finite", self.context.counters)
        found = condition.push(packet.source_end_ns, values)
        if found is None:
            return False
        if condition.active and not was_active:
            self._fire(watched, packet, found, fires, fresh=fresh)
        elif not condition.active:
            watched.level = False
        return True

    def _fire(
        self,
        watched: _Watched,
        packet: Packet,
        found: tuple[int, float],
        fires: NDArray[np.uint8],
        *,
        fresh: bool,
    ) -> None:
        now_ns = time.monotonic_ns()
        suppressed = watched.gate.ask(now_ns) if fresh else "too_old"
        armed = self._armed
        fired = armed and not suppressed
        watched.level = fired
        fires[watched.number] = fired
        watched.count(suppressed or ("fired" if armed else "dry"), self.context.counters)
        at, value = found
        self._write({
            "t_ns": now_ns, "rule": watched.name, "fired": fired, "armed": armed,
            "suppressed": suppressed or None, "value": value, "channel": watched.names[at],
            "age_ms": round((now_ns - packet.t_ns) / 1e6, 3), "stream": watched.stream,
            "source_ns": packet.source_end_ns, "segment": packet.segment,
        })  # fmt: skip

    def _write(self, line: dict[str, Any]) -> None:
        self._log.write(line)
        if self._log.lost:
            self.context.counters.drop("firing_not_logged", self._log.count_lost())

    def _levels(self) -> NDArray[np.uint8]:
        levels = np.zeros(self._n, np.uint8)
        for rules in self._rules.values():
            for watched in rules:
                levels[watched.number] = watched.level
        return levels

    def _watch(self, inputs: Mapping[str, StreamSpec]) -> list[_Watched]:
        """Set the rules up for what is linked.

        Raises
        ------
        ConfigError
            A rule does not fit it.
        """
        watched = []
        for number, (name, rule) in enumerate(self.settings.rules.items()):
            try:
                watched.append(self._watched(name, number, rule, inputs))
            except ConfigError as error:
                raise ConfigError(f"rules: rule '{name}', {error}") from None
        return watched

    def _watched(
        self, name: str, number: int, rule: Rule, inputs: Mapping[str, StreamSpec]
    ) -> _Watched:
        if rule.stream is None and len(inputs) > 1:
            raise ConfigError(f"stream: is missing; linked are {', '.join(inputs)}.")
        stream = rule.stream or next(iter(inputs))
        if stream not in inputs:
            raise ConfigError(f"stream: '{stream}' is not linked; linked are {', '.join(inputs)}.")
        spec = inputs[stream]
        read, names = reader(stream, spec, rule)
        limit = rule.limit or self.settings.limit
        count, span_s = parse_limit(limit) if limit else (0, 0.0)
        refractory = self.settings.refractory if rule.refractory is None else rule.refractory
        return _Watched(
            name, number, stream, read, names, _condition(rule, spec),
            Gate(to_ns(refractory), (count, to_ns(span_s)) if limit else None),
            spec.kind == "spikes",
        )  # fmt: skip


def _condition(rule: Rule, spec: StreamSpec) -> Condition:
    condition = rule.condition
    # A probability, a change or a number of spikes has no unit, whatever else the stream has.
    plain = rule.label is not None or spec.kind in ("graph", "spikes")
    unit = "" if plain else spec.unit
    given: Any = getattr(rule, condition)
    on = 0.0 if given is None else amount_in(unit, given, condition)
    off = on if rule.release is None else amount_in(unit, rule.release, "release")
    # Of falls the sign is that of the values; how far they fall is positive.
    sign = -1.0 if condition in ("below", "falls") else 1.0
    if condition == "below":
        on, off = -on, -off
    if off > on:
        side = "above" if condition != "below" else "below"
        raise ConfigError(
            f"release: {rule.release!r} lies {side} the threshold, {given!r}; it has to be on the"
            " other side, or be left out."
        )
    within_ns = None if rule.within is None else to_ns(rule.within)
    return Condition(on, off, sign, within_ns)
