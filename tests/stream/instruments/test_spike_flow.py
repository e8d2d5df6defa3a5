import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.instruments.sample_clock import SampleClock
from stream.instruments.spike_flow import PATIENCE_S, SpikeFlow
from stream.node import Context, Counters, StreamSpec
from stream.packet import Packet
from stream.spikes.bin import BinSettings, SpikesBin

RATE_HZ = 30_000
MS = 1_000_000
START_NS = 7_000 * 1000 * MS


def _flow(allowance_s: float | None = None, rate_hz: float = RATE_HZ) -> SpikeFlow:
    return SpikeFlow(SampleClock(rate_hz), Counters(), allowance_s)


def _packets(flow: SpikeFlow, now_ns: int) -> list[Packet]:
    """Everything that has arrived until now was taken."""
    flow.listened(now_ns)
    return flow.packets(now_ns)


def _spikes(*samples: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array(samples, np.int64), np.zeros(len(samples), np.int64)


def _times_ms(packets: list[Packet]) -> list[float]:
    return [t / MS for p in packets for t in p.data[:, 0].tolist()]


def _check(packets: list[Packet]) -> None:
    """Within a segment, packets follow each other without holes, sorted, and keep their promise."""
    for a, b in itertools.pairwise(packets):
        assert b.segment >= a.segment
        if a.segment == b.segment:
            assert b.source_ns == a.source_end_ns
    for p in packets:
        assert 0 < p.source_end_ns - p.source_ns <= 1e9
        assert (np.diff(p.data[:, 0]) >= 0).all()
        assert (p.data[:, 0] < p.source_end_ns).all()


def test_time_goes_on_while_nobody_spikes(tmp_path) -> None:
    flow = _flow(allowance_s=0.02)
    bins = SpikesBin(BinSettings(width="5 ms"))
    spec = StreamSpec("spikes", (None, 2), "int64", ("a",))
    bins.open(Context("bins", {"probe": spec}, tmp_path))
    flow.add(*_spikes(3000), START_NS)
    counted = []
    for ms in range(0, 1000, 2):
        for packet in _packets(flow, START_NS + ms * MS):
            counted += list(bins.process("probe", packet))
    assert len(counted) == 195
    assert [float(c.data[0]) for c in counted] == [1.0] + [0.0] * 194
    # Of each bin it is known within the allowance and the 2 ms between two packets.
    assert counted[-1].t_ns == pytest.approx(START_NS + 975 * MS, abs=3 * MS)


def test_without_an_allowance_only_the_instrument_lets_time_pass() -> None:
    flow = _flow()
    flow.add(*_spikes(3000, 3010), START_NS)
    assert _packets(flow, START_NS + 900 * MS) == []
    assert flow.due_ns(START_NS + 900 * MS) is None
    flow.passed(3300, START_NS + 901 * MS)
    assert flow.due_ns(START_NS + 901 * MS) == START_NS + 901 * MS
    (packet,) = _packets(flow, START_NS + 901 * MS)
    assert (packet.source_ns, packet.source_end_ns) == (100 * MS, 110 * MS)
    assert len(packet.data) == 2


@given(
    st.lists(st.lists(st.integers(0, 3000), max_size=30), min_size=1, max_size=20),
    st.sampled_from([None, 0.0, 0.05]),
    st.sampled_from([30_000.0, 1e9, 44_100.5]),
)
def test_every_spike_is_sent_once_whatever_the_bursts(
    bursts: list[list[int]], allowance_s: float | None, rate_hz: float
) -> None:
    flow = _flow(allowance_s, rate_hz)
    packets: list[Packet] = []
    added = []
    for number, burst in enumerate(bursts):
        now_ns = START_NS + number * 10 * MS
        samples = [round(s * rate_hz / 30_000) for s in burst]
        flow.add(*_spikes(*samples), now_ns)
        added += samples
        packets += _packets(flow, now_ns)
    flow.lost()
    packets += _packets(flow, START_NS + 10**9)
    expected = [SampleClock(rate_hz).source_ns(s) for s in sorted(added)]
    assert sorted(t for p in packets for t in p.data[:, 0].tolist()) == expected
    if "late_spikes" not in flow._counters.notes:
        _check(packets)


def test_a_spike_later_than_allowed_is_sent_and_counted() -> None:
    flow = _flow(allowance_s=0.02)
    flow.add(*_spikes(3000), START_NS)
    _packets(flow, START_NS + 100 * MS)
    flow.add(*_spikes(3300), START_NS + 101 * MS)
    sent = _packets(flow, START_NS + 104 * MS)
    assert _times_ms(sent) == [110]
    assert sent[0].source_ns > 110 * MS
    assert flow._counters.notes["late_spikes"] == 1


@pytest.mark.parametrize("to", [0, 3000 + 3600 * RATE_HZ])
def test_a_clock_that_jumps_begins_a_segment_and_loses_nothing(to: int) -> None:
    flow = _flow(allowance_s=0.02)
    flow.add(*_spikes(3000 + 100_000), START_NS)
    flow.add(*_spikes(to, to + 1), START_NS + 5 * MS)
    packets = _packets(flow, START_NS + 40 * MS)
    assert [p.segment for p in packets for _ in p.data] == [0, 1, 1]
    assert flow._counters.notes["clock_jumps"] == 1
    _check(packets)


def test_a_connection_that_was_stuck_for_seconds_loses_nothing_when_the_instrument_ticks() -> None:
    flow = _flow()
    packets = []
    for block in range(100):
        # From the 20th block on, everything comes 3 s late and then at once.
        now_ns = START_NS + (block * 10 + 10) * MS + (3000 * MS if block >= 20 else 0)
        flow.add(*_spikes(block * 300 + 7), now_ns)
        flow.passed(block * 300 + 300, now_ns)
        packets += _packets(flow, now_ns)
    assert {p.segment for p in packets} == {0}
    assert sum(len(p.data) for p in packets) == 100
    _check(packets)


def test_after_a_long_silence_time_stands_still_and_a_word_begins_a_segment() -> None:
    flow = _flow(allowance_s=0.02)
    flow.add(*_spikes(3000), START_NS)
    end_ns = START_NS + round(PATIENCE_S * 1e9)
    assert _packets(flow, end_ns)
    assert _packets(flow, end_ns + MS) == []
    assert flow.due_ns(end_ns + MS) is None
    flow.add(*_spikes(3000 + 6 * RATE_HZ), START_NS + 6000 * MS)
    (packet,) = _packets(flow, START_NS + 6021 * MS)
    assert packet.segment == 1
    assert flow._counters.notes["silences"] == 1


def test_a_lost_connection_ends_the_segment_and_says_what_is_missing() -> None:
    flow = _flow()
    flow.add(*_spikes(3000), START_NS)
    flow.lost(gap=4)
    assert flow.due_ns(START_NS) == START_NS
    assert _times_ms(_packets(flow, START_NS)) == [100]
    flow.add(*_spikes(20), START_NS + 10)
    flow.passed(30, START_NS + 10)
    (packet,) = _packets(flow, START_NS + 10)
    assert (packet.segment, packet.gap) == (1, 4)


def test_bins_in_a_stretch_that_is_missing_are_marked_and_the_others_are_not(tmp_path) -> None:
    flow = _flow()
    bins = SpikesBin(BinSettings(width="5 ms"))
    spec = StreamSpec("spikes", (None, 2), "int64", ("a",))
    bins.open(Context("bins", {"probe": spec}, tmp_path))
    flow.passed(0, START_NS)
    flow.add(*_spikes(299, 3001), START_NS)
    flow.complete(300)
    flow.skip(3000)
    flow.missed(7)
    flow.passed(3600, START_NS + 1)
    packets = _packets(flow, START_NS + 1)
    assert sum(p.gap for p in packets) == 7
    counted = [c for p in packets for c in bins.process("probe", p)]
    # 10 ms are known, then 90 ms missing, then 20 ms known.
    assert [c.gap > 0 for c in counted] == [False] * 2 + [True] * 18 + [False] * 4
    assert [i for i, c in enumerate(counted) if c.data[0]] == [1, 20]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(-50_000, 50_000)),
            st.tuples(st.just("passed"), st.integers(-100, 60_000)),
            st.tuples(st.just("skip"), st.integers(0, 20_000)),
            st.tuples(st.just("lost"), st.just(0)),
            st.tuples(st.just("wait"), st.integers(0, 7_000)),
        ),
        max_size=40,
    ),
    st.sampled_from([None, 0.02]),
)
def test_whatever_an_instrument_does_spikes_are_kept_and_time_goes_forward(
    steps: list[tuple[str, int]], allowance_s: float | None
) -> None:
    flow = _flow(allowance_s)
    now_ns, at, added = START_NS, 1_000_000, 0
    packets: list[Packet] = []
    for what, by in steps:
        now_ns += 10 * MS
        if what == "wait":
            now_ns += by * MS
        elif what == "add":
            at += by
            flow.add(*_spikes(at, at + 3), now_ns)
            added += 2
        elif what == "passed":
            at += by
            flow.passed(at, now_ns)
        elif what == "skip":
            flow.skip(at + by)
        else:
            flow.lost()
        packets += _packets(flow, now_ns)
    flow.lost()
    packets += _packets(flow, now_ns)
    assert sum(len(p.data) for p in packets) == added
    for p in packets:
        assert 0 < p.source_end_ns - p.source_ns <= 1e9
        assert p.t_ns <= now_ns
        assert (p.data[:, 0] < p.source_end_ns).all()
    for a, b in itertools.pairwise(packets):
        assert (b.segment, b.source_ns) >= (a.segment, a.source_end_ns)
