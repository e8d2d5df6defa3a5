"""From what Open Ephys sends to packets: blocks, spikes, edges, and what is missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from stream.errors import WireError
from stream.instruments.open_ephys.blocks import Blocks
from stream.instruments.open_ephys.messages import (
    Block,
    Data,
    Message,
    Spike,
    decode,
    ttl_edge,
)
from stream.instruments.open_ephys.points import Points, edges_until, spikes_until
from stream.instruments.sample_clock import SampleClock
from stream.node import Counters, StreamSpec
from stream.packet import Packet

HELD_SAMPLES = 100
"""How far the GUI's Spike Detector stays behind the end of a block (`SpikeDetector.cpp`)."""
BEHIND_NS = 60_000_000
"""How old a spike is when it comes at the latest, where no blocks tell: two blocks and some."""
_JUMP_NS = 1_000_000_000
_RATE_LIE_PPM = 10_000

_log = logging.getLogger(__name__)


def unit_name(electrode: str | int, sorted_id: int, by_sorting: bool) -> str:
    """Return the name of the unit that a spike belongs to."""
    return f"{electrode}:{sorted_id}" if by_sorting else str(electrode)


class Acquisition:
    """Everything that is known of one stream of the GUI while it runs.

    Of a block, the GUI sends the spikes and edges first and then its channels, so the first channel
    tells that the block's spikes are here. They leave then; the samples leave with the last one.

    Parameters
    ----------
    outputs
        The streams as they were announced: "", `samples`, `ttl`, those that are there.
    linked
        Which of them are wanted.
    by_sorting, lines
        As the settings of the node.
    """

    def __init__(
        self,
        outputs: Mapping[str, StreamSpec],
        linked: frozenset[str] | None,
        counters: Counters,
        *,
        by_sorting: bool,
        lines: int,
    ) -> None:
        wanted = {o: s for o, s in outputs.items() if linked is None or o in linked}
        about = next(iter(outputs.values())).meta
        self._rate_hz: float = about["rate_hz"]
        self._stream: str = about["stream"]
        self._blocks_tell: bool = about["blocks"]
        spikes, samples = wanted.get(""), wanted.get("samples")
        self._units = {n: i for i, n in enumerate(spikes.names)} if spikes else None
        self._blocks = None if samples is None else Blocks(samples.meta["channels"])
        self._lines = lines if "ttl" in wanted else 0
        self._by_sorting = by_sorting
        self._counters = counters
        self._told: set[str] = set()
        self.clock = SampleClock(self._rate_hz)
        self.segment = 0
        reach = round(self._rate_hz)
        self._spikes, self._edges = Points(reach), Points(reach)
        self._message_num: int | None = None
        # Whether all of what is coming has been seen from its beginning.
        self._whole = False
        self._block_sample: int | None = None
        self._next: int | None = None
        self._block_ns = 0
        self._gap = {"": 0, "samples": 0, "ttl": 0}
        self._missing_samples = 0
        self._jumps = 0
        self._restarts = 0
        self._worst_ns = 0

    def take(self, frames: list[bytes], arrived_ns: int) -> list[Packet]:
        """Take in a message of the ZMQ Interface and return the packets that it leads to."""
        packets: list[Packet] = []
        try:
            message = decode(frames)
            packets += self._follow(message, arrived_ns)
            if isinstance(message, Data):
                packets += self._data(message.content, frames[2], arrived_ns)
            elif isinstance(message, Spike):
                spike = message.spike
                self.spike(
                    spike.stream, spike.electrode, spike.sorted_id, spike.sample_num, arrived_ns
                )
            else:
                line, up = ttl_edge(message, frames[-1])
                self.edge(message.content.stream, line, up, message.content.sample_num, arrived_ns)
        except WireError as error:
            self.refuse("unreadable", f"sent what is no message: {error}")
        return packets

    def spike(
        self, stream: str, electrode: str | int, sorted_id: int, sample: int, arrived_ns: int
    ) -> None:
        """Take in a spike."""
        if self._units is None or not self._is_ours(stream):
            return
        name = unit_name(electrode, sorted_id, self._by_sorting)
        unit = self._units.get(name)
        if unit is None:
            self.refuse("other_unit", f"sent a spike of '{name}', which is not among the units")
            return
        self._spikes.add(sample, unit)
        if not self._blocks_tell:
            self._sample_came(sample, arrived_ns)

    def edge(self, stream: str, line: int, up: bool, sample: int, arrived_ns: int) -> None:
        """Take in a change of a TTL line, which counts from 0."""
        if not self._lines or not self._is_ours(stream):
            return
        if line >= self._lines:
            self.refuse("other_line", f"sent an edge of line {line + 1} of {self._lines}")
            return
        self._edges.add(sample, 2 * line + (not up))
        if not self._blocks_tell:
            self._sample_came(sample, arrived_ns)

    def refuse(self, reason: str, text: str) -> None:
        """Count what cannot be used, and log the first of a kind."""
        self._counters.drop(reason)
        self._say(reason, text)

    def elapse(self, now_ns: int) -> list[Packet]:
        """Return what is old enough to be complete, where no blocks tell."""
        if self._blocks_tell or self._spikes.known is None:
            return []
        last = self._spikes.known
        ahead_ns = now_ns - BEHIND_NS - self.clock.host_ns(last)
        until = last + int(ahead_ns * self._rate_hz / 1e9)
        return self._points(until, until + round(self._rate_hz), now_ns) if until > last else []

    def finish(self, now_ns: int) -> list[Packet]:
        """Return what has been held back."""
        if self._next is None:
            return []
        return self._points(self._next, self._next, now_ns)

    def note(self) -> None:
        """Leave in the report what is known of clocks and losses."""
        note = self._counters.note
        if self._next is not None:
            at_ms = (self.clock.host_ns(self._next) - self.clock.source_ns(self._next)) / 1e6
            note("clock_offset_ms", round(at_ms, 3))
            note("worst_block_late_ms", round(self._worst_ns / 1e6, 3))
        note("missing_samples", self._missing_samples)
        self._counters.note_rare(
            late_spikes=self._spikes.late,
            implausible_times=self._spikes.strange + self._edges.strange,
            acquisitions=self._restarts + 1 if self._restarts else 0,
            clock_jumps=self._jumps,
        )
        if (ppm := self.clock.drift_ppm) is not None:
            note("drift_ppm", round(ppm, 1))
            measured_hz = self._rate_hz / (1 + ppm * 1e-6)
            note("measured_hz", round(measured_hz, 3))
            if abs(ppm) > _RATE_LIE_PPM:
                self._say("rate", f"states {self._rate_hz:g} Hz, but sends {measured_hz:.0f} a s")
                note("stated_hz", self._rate_hz)

    # Messages

    def _follow(self, message: Message, arrived_ns: int) -> list[Packet]:
        """Compare the number of a message with that of the one before."""
        number, last = message.message_num, self._message_num
        self._message_num = number
        packets: list[Packet] = []
        lost = 0
        if last is not None and number <= last:
            packets = self._restart(arrived_ns)
            self._whole = number == 1
            lost = number - 1
        elif last is not None:
            lost = number - last - 1
        if lost > 0:
            self._counters.drop("lost_messages", lost)
            self._say("lost", f"lost {lost} messages before number {number}")
            for output in ("", "ttl"):
                self._gap[output] = max(self._gap[output], 1)
        return packets

    def _sample_came(self, sample: int, arrived_ns: int) -> None:
        """Learn, where no blocks tell, that a sample of this number is here."""
        if self._next is not None:
            away_ns = self.clock.away_ns(sample, arrived_ns)
            if not -_JUMP_NS < away_ns < _JUMP_NS + arrived_ns - self._block_ns:
                self._jumped()
        self._block_ns = arrived_ns
        self.clock.observe(sample + 1, arrived_ns)
        self._next = max(self._next or sample, sample + 1)
        if self._spikes.known is None:
            self._spikes.begin(sample)
            self._edges.begin(sample)

    def _data(self, block: Block, payload: bytes, arrived_ns: int) -> list[Packet]:
        if not self._is_ours(block.stream) or not block.num_samples:
            return []
        packets: list[Packet] = []
        if block.sample_num != self._block_sample:
            packets = self._new_block(block, arrived_ns)
        if self._blocks is None:
            return packets
        if not self._blocks.knows(block):
            self.refuse("other_channel", f"sent channel {block.channel_num + 1}, new since then")
        elif block.sample_rate != self._rate_hz:
            # Where its samples belong is told by their numbers, so spikes go on; what they are not.
            self.refuse(
                "other_rate", f"states {block.sample_rate:g} Hz now, was {self._rate_hz:g} Hz"
            )
        elif (samples := self._blocks.add(block, payload)) is not None:
            end = block.sample_num + block.num_samples
            packet = Packet(
                kind="samples", data=samples, t_ns=0,
                source_ns=self.clock.source_ns(block.sample_num),
                source_end_ns=self.clock.source_ns(end), segment=self.segment, output="samples",
            )  # fmt: skip
            packets.append(self._stamped(packet, end, arrived_ns))
        return packets

    # Time

    def _new_block(self, block: Block, arrived_ns: int) -> list[Packet]:
        """Place a block behind the last one, and send the spikes and edges that came with it."""
        sample, n = block.sample_num, block.num_samples
        end = sample + n
        if self._next is not None:
            # After an hour's stall of this program, an hour may be missing; else the clock jumped.
            possible_ns = arrived_ns - self._block_ns + _JUMP_NS
            missing = sample - self._next
            if missing < 0 or missing * 1e9 / self._rate_hz > possible_ns:
                self._jumped()
                self._whole = True
            elif missing:
                self._hole(sample, missing, n)
        self._block_sample, self._next, self._block_ns = sample, end, arrived_ns
        began = self._spikes.known is None
        if began:
            # What was sent of this block before there was somebody to listen is not known.
            first = sample if self._whole else end
            self._spikes.begin(max(first - HELD_SAMPLES, min(first, 0)))
            self._edges.begin(first)
        else:
            self._worst_ns = max(self._worst_ns, self.clock.away_ns(end, arrived_ns))
        if self._blocks is not None:
            if began and not self._whole:
                self._blocks.forget()
            else:
                self._blocks.begin(n)
        self.clock.observe(end, arrived_ns)
        return self._points(end - HELD_SAMPLES, end, arrived_ns)

    def _hole(self, sample: int, missing: int, n: int) -> None:
        self._missing_samples += missing
        self._say("hole", f"left out {missing} samples before sample {sample}")
        for output in self._gap:
            self._gap[output] = max(self._gap[output], -(-missing // n))
        self._spikes.pass_by(sample - HELD_SAMPLES)
        self._edges.pass_by(sample)

    def _jumped(self) -> None:
        self._jumps += 1
        self._say("jump", "has a clock that jumped; a new segment begins")
        self._new_segment()

    def _restart(self, arrived_ns: int) -> list[Packet]:
        """End the segment, with what was held back of it: the GUI has begun another acquisition."""
        self._restarts += 1
        self._say("restart", "began another acquisition; a new segment begins")
        packets = self.finish(arrived_ns)
        self._spikes.begin(2**62)
        self._edges.begin(2**62)
        self._new_segment()
        return packets

    def _new_segment(self) -> None:
        self.segment += 1
        self.clock.restart()
        self._spikes.known = self._edges.known = None
        self._next = self._block_sample = None
        self._gap = dict.fromkeys(self._gap, 0)
        if self._blocks is not None:
            self._blocks.forget()

    # Packets

    def _points(self, until: int, sampled: int, arrived_ns: int) -> list[Packet]:
        """Return the spikes up to `until`, and the edges of all that was sampled."""
        packets: list[Packet] = []
        spikes, edges = self._spikes, self._edges
        if self._units is not None and spikes.known is not None and until > spikes.known:
            packet = spikes_until(spikes, until, sampled, self.clock, self.segment)
            packets.append(self._stamped(packet, until, arrived_ns))
        if self._lines and edges.known is not None:
            edges_end = sampled if self._blocks_tell else until
            if edges_end > edges.known:
                for packet in edges_until(
                    edges, edges_end, sampled, self.clock, self.segment, lines=self._lines
                ):
                    packet.output = "ttl"
                    packets.append(self._stamped(packet, edges_end, arrived_ns))
        return packets

    def _stamped(self, packet: Packet, sample: int, arrived_ns: int) -> Packet:
        """Complete a packet of which `sample` is the first that is not in it."""
        packet.t_ns = min(arrived_ns, self.clock.host_ns(sample))
        gap = self._gap[packet.output]
        if packet.output == "samples" and self._blocks is not None:
            gap, self._blocks.missing = gap + self._blocks.missing, 0
        packet.gap, self._gap[packet.output] = gap, 0
        return packet

    # What is refused

    def _is_ours(self, stream: str) -> bool:
        if stream == self._stream:
            return True
        self.refuse("other_stream", f"sends the stream '{stream}' now, not '{self._stream}'")
        return False

    def _say(self, reason: str, text: str) -> None:
        """Log the first of a kind; the report has the number of all."""
        if reason not in self._told:
            self._told.add(reason)
            _log.warning("Open Ephys %s; the report counts what more of that kind comes", text)
