"""`intan`: spikes, and waveforms if wanted, of an Intan controller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from stream.errors import ConfigError
from stream.instruments.intan.reader import Got, IntanReader, Wanted
from stream.instruments.intan.records import FRAMES_PER_BLOCK, Unwrap
from stream.instruments.intan.rhx import RhxError
from stream.instruments.live import LiveSource
from stream.instruments.names import Names, expand_names
from stream.instruments.sample_clock import SampleClock
from stream.instruments.spike_flow import JUMP_S, SpikeFlow
from stream.node import Context, NodeSettings, StreamSpec
from stream.packet import Packet
from stream.units import Hertz

_MICROVOLTS = 0.195
_ZERO = 32768
# Ids of RHX: one bit for each of four sorted units, one for the rest, one for artifacts.
_UNITS = {0x40: 0, 0x01: 1, 0x02: 2, 0x04: 3, 0x08: 4}
_ARTIFACT = 0x80


def _native(names: tuple[str, ...]) -> tuple[str, ...]:
    names = expand_names(name.upper() for name in names)
    for name in names:
        if len(name) != 5 or name[1] != "-" or not name[2:].isdecimal():
            raise ValueError(f"{name!r} is no native name of an amplifier channel, such as A-010")
    return names


class IntanSettings(NodeSettings):
    """Settings of `intan`."""

    channels: Annotated[Names, AfterValidator(_native)] = Field(
        description="native names of the channels, such as [A-000..A-031, B-010]"
    )
    host: str = Field("127.0.0.1", description="where RHX runs")
    port: int = Field(5000, ge=1, le=65535, description="port on which RHX takes commands")
    rate: Hertz = Field(30_000, gt=0, description="sample rate of RHX")
    sorted: bool = Field(
        False, description="a unit for each of the five ids of a channel (A-010.0 to A-010.4)"
    )
    band: Literal["wide", "low", "high"] | None = Field(
        None, description="also send the waveforms of this band, as the stream NAME.samples"
    )
    start: bool = Field(
        True, description="let RHX run, and stop it at the end; else whoever sits there does"
    )


class Intan(LiveSource[IntanSettings, Got | None]):
    """Set up RHX by its command socket, and send the spikes that it detects.

    Time goes on with the blocks of 128 samples that RHX sends also when nobody spikes. When it is
    stopped and started, or lost and found, a new segment begins.
    """

    use = "intan"
    summary = "spikes (and waveforms) of an Intan controller, by the TCP sockets of RHX"
    Settings = IntanSettings

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Return the stream of spikes, and that of samples if a band is wanted."""
        s = self.settings
        names = s.channels
        if s.sorted:
            names = tuple(f"{name}.{unit}" for name in names for unit in range(len(_UNITS)))
        specs = {"": StreamSpec("spikes", (None, 2), "int64", names)}
        if s.band is not None:
            specs["samples"] = StreamSpec(
                "samples", (FRAMES_PER_BLOCK, len(s.channels)), "float32", s.channels, "uV",
                FRAMES_PER_BLOCK / s.rate, {"rate_hz": s.rate},
            )  # fmt: skip
        return specs

    def open(self, context: Context) -> None:
        """Set RHX up and connect to it.

        Raises
        ------
        ConfigError
            It is not there, runs already, samples at another rate, or refuses a setting.
        """
        super().open(context)
        s = self.settings
        # RHX numbers its channels by port, whatever the order of commands.
        self._in_frame = sorted(range(len(s.channels)), key=s.channels.__getitem__)
        self._sorted_names = np.array([s.channels[i] for i in self._in_frame], "S5")
        self._column = np.argsort(self._in_frame)
        self._clock = SampleClock(s.rate)
        self.reader = IntanReader(
            Wanted(s.host, s.port, s.channels, s.band, s.rate, s.start), self.arrivals
        )
        try:
            self.reader.connect()
        except RhxError as error:
            self.reader.disconnect()
            raise ConfigError(str(error)) from None
        self.begin()
        self.reader.start(connected=True)

    def begin(self) -> None:
        """Know nothing of what came before."""
        self._flow = SpikeFlow(self._clock, self.context.counters)
        self._unwrap = Unwrap(round(JUMP_S * self.settings.rate))
        self._next: int | None = None

    def take(self, item: Got | None) -> Iterable[Packet]:
        """Take what RHX has sent."""
        if item is None:
            self._lose()
            return ()
        before = self._next
        if item.settled and before is not None:
            self._flow.complete(before)
        packets = []
        for block in item.blocks:
            packets += self._take_block(block, item.arrived_ns)
        if len(item.spikes):
            self._take_spikes(item.spikes, item.arrived_ns)
        if len(item.blocks) and self._next is not None:
            # The spikes of a block were written before the next block.
            self._flow.complete(self._next - FRAMES_PER_BLOCK)
        if (drift := self._clock.drift_ppm) is not None:
            self.context.counters.note("drift_ppm", round(drift, 1))
        return packets

    def pending_ns(self, now_ns: int) -> int | None:
        """Return when there are spikes, or silence, to send."""
        return self._flow.due_ns(now_ns)

    def pending(self, now_ns: int) -> Iterable[Packet]:
        """Send what nothing earlier can follow any more."""
        return self._flow.packets(now_ns)

    def _lose(self) -> None:
        """End the segment: RHX was lost, or began to count anew."""
        self._flow.lost()
        self._next = None

    def _take_block(self, block: np.void, arrived_ns: int) -> list[Packet]:
        first = int(self._unwrap.feed(block["frames"]["timestamp"][:1])[0])
        end = first + FRAMES_PER_BLOCK
        if self._next is not None and first < self._next:
            self._lose()
        segment = self._flow.segment
        self._flow.hear(first, end, arrived_ns)
        missing = 0
        if self._next is not None and self._flow.segment == segment:
            missing = (first - self._next) // FRAMES_PER_BLOCK
        if missing and self._next is not None:
            self._flow.complete(self._next)
            self._flow.skip(first)
            self._flow.missed(missing)
            self.context.counters.drop("missing_blocks", missing)
        self._next = end
        if self.settings.band is None:
            return []
        return [self._samples(block, first, end, missing, arrived_ns)]

    def _samples(self, block: np.void, first: int, end: int, gap: int, arrived_ns: int) -> Packet:
        words = block["frames"]["words"][:, self._column]
        data = (words.astype(np.float32) - _ZERO) * np.float32(_MICROVOLTS)
        return Packet(
            "samples", data, min(arrived_ns, self._clock.host_ns(end)),
            self._clock.source_ns(first), self._clock.source_ns(end),
            segment=self._flow.segment, gap=gap, output="samples",
        )  # fmt: skip

    def _take_spikes(self, spikes: NDArray[np.void], arrived_ns: int) -> None:
        drop = self.context.counters.drop
        names = self._sorted_names
        at = np.minimum(np.searchsorted(names, spikes["channel"]), len(names) - 1)
        known = names[at] == spikes["channel"]
        if not known.all():
            drop("unknown_channel", int((~known).sum()))
        artifact = known & (spikes["id"] == _ARTIFACT)
        if artifact.any():
            drop("artifact", int(artifact.sum()))
        samples = self._unwrap.feed(spikes["timestamp"])
        # Of the time before a segment, only some spikes are still on their way.
        kept = known & ~artifact & (samples >= self._flow.first)
        units = np.array(self._in_frame, np.int64)[at]
        if self.settings.sorted:
            units = units * len(_UNITS) + np.array(
                [_UNITS.get(i, 0) for i in spikes["id"].tolist()]
            )
        self._flow.add(samples[kept], units[kept], arrived_ns)
        if kept.any():
            # RHX writes the spikes of a block sorted by time.
            self._flow.complete(int(samples[kept][-1]) + 1)
