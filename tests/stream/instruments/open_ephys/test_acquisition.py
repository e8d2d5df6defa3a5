import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oe_wire import MS, RATE, START_NS, Gui, N, data_frames, edge_frames

from stream.instruments.open_ephys.acquisition import HELD_SAMPLES
from stream.node import Context, StreamSpec
from stream.spikes.bin import BinSettings, SpikesBin


def ns(sample: int) -> int:
    return round(sample * 1e9 / RATE)


@pytest.fixture
def gui() -> Gui:
    """A GUI whose first, partly seen, block ended at sample 0."""
    made = Gui()
    made.block(-N)
    made.packets.clear()
    return made


def test_a_spike_leaves_with_the_first_channel_of_its_block(gui: Gui) -> None:
    gui.spike(150, "b")
    assert gui.packets == []
    gui.now_ns += 10 * MS
    gui.number += 1
    packets = gui.send(data_frames(gui.number, 0, 0, N))
    assert [p.data.tolist() for p in packets if p.output == ""] == [[[ns(150), 1]]]


def test_what_a_packet_covers_joins_that_of_the_one_before_spikes_or_none(gui: Gui) -> None:
    for sample in range(0, 3000, N):
        gui.block(sample)
    packets = gui.of("")
    assert [p.source_ns for p in packets[1:]] == [p.source_end_ns for p in packets[:-1]]
    assert packets[-1].source_end_ns == ns(3000 - HELD_SAMPLES)
    assert {(p.segment, p.gap, p.kind) for p in packets} == {(0, 0, "spikes")}
    assert all(p.t_ns <= gui.now_ns for p in packets)


def test_a_spike_of_the_last_samples_waits_for_the_block_that_completes_them(gui: Gui) -> None:
    gui.spike(N - 5, "a")
    gui.block(0)
    assert gui.spikes == []
    gui.spike(N - 50, "b")
    gui.block(N)
    assert gui.spikes == [(N - 50, 1), (N - 5, 0)]


def test_channels_are_put_together_and_come_as_samples_by_channels(gui: Gui) -> None:
    gui.block(0)
    (packet,) = gui.of("samples")
    assert (packet.kind, packet.data.shape, packet.data.dtype) == ("samples", (N, 2), np.float32)
    assert packet.data[7].tolist() == [7, 1007]
    assert (packet.source_ns, packet.source_end_ns) == (0, ns(N))
    assert packet.data.flags.c_contiguous


def test_every_edge_has_a_packet_of_its_own_and_the_block_one_without(gui: Gui) -> None:
    gui.edge(30, 0, True)
    gui.edge(60, 2, False)
    gui.edge(60, 1, True)
    gui.block(0)
    packets = gui.of("ttl")
    found = [(p.source_ns, p.source_end_ns, np.flatnonzero(p.data).tolist()) for p in packets]
    assert found == [(ns(30), ns(30), [0]), (ns(60), ns(60), [2, 5]), (0, ns(N), [])]
    assert {p.kind for p in packets} == {"trigger"}


def test_what_nobody_takes_is_not_made() -> None:
    gui = Gui(linked=frozenset({"ttl"}))
    for sample in range(0, 1200, N):
        gui.spike(sample + 5)
        gui.block(sample)
    assert {p.output for p in gui.packets} == {"ttl"}


def test_a_hole_is_counted_to_the_sample_and_marks_every_stream(gui: Gui) -> None:
    gui.block(0)
    gui.number += 500
    lost = 5 * N - 7
    gui.block(N + lost, after_ns=60 * MS)
    gui.acquisition.note()
    assert gui.counters.notes["missing_samples"] == lost
    assert gui.counters.dropped == {"lost_messages": 500}
    for output in ("", "samples", "ttl"):
        last = gui.of(output)[-1]
        assert (last.gap, last.segment) == (5, 0), output
    assert gui.of("samples")[-1].source_ns == ns(N + lost)
    assert gui.of("")[-1].source_ns == ns(N + lost - HELD_SAMPLES)


def test_a_lost_spike_marks_the_next_packet_although_no_sample_is_missing(gui: Gui) -> None:
    gui.block(0)
    gui.number += 1
    gui.block(N)
    gui.block(2 * N)
    assert [p.gap for p in gui.of("")] == [0, 1, 0]
    assert [p.gap for p in gui.of("samples")] == [0, 0, 0]


def test_a_block_that_lacks_a_channel_is_left_out_and_its_spikes_are_not(gui: Gui) -> None:
    gui.block(0)
    gui.spike(N + 5)
    gui.block(N, channels=(0,))
    gui.block(2 * N)
    assert [p.source_ns for p in gui.of("samples")] == [0, ns(2 * N)]
    assert [p.gap for p in gui.of("samples")] == [0, 1]
    assert gui.spikes == [(N + 5, 0)]


def test_new_channels_are_refused_and_the_others_go_on(gui: Gui) -> None:
    gui.block(0, channels=(0, 1, 2, 3))
    gui.block(N, channels=(0, 1, 2, 3))
    assert [p.data.shape for p in gui.of("samples")] == [(N, 2)] * 2
    assert gui.counters.dropped == {"other_channel": 4}


def test_another_acquisition_begins_a_segment_and_nothing_of_the_first_is_lost(gui: Gui) -> None:
    gui.spike(N - 5)
    gui.block(0)
    gui.number = 0
    gui.spike(12, "c")
    gui.block(0)
    gui.block(N)
    assert gui.spikes == [(N - 5, 0), (12, 2)]
    assert [p.segment for p in gui.of("")] == [0, 0, 1, 1]
    assert [(p.segment, p.source_ns) for p in gui.of("samples")] == [(0, 0), (1, 0), (1, ns(N))]
    assert gui.of("")[1].source_end_ns == ns(N)
    assert gui.of("")[2].source_ns == 0
    assert gui.counters.dropped == {}


def test_what_was_held_back_leaves_also_when_another_acquisition_begins_with_what_is_no_ttl(
    gui: Gui,
) -> None:
    gui.spike(N - 5)
    gui.block(0)
    envelope, header, payload = edge_frames(1, 3, 0, True)
    gui.send([envelope, header.replace(b'"type": 3', b'"type": 5'), payload])
    assert gui.spikes == [(N - 5, 0)]
    assert gui.counters.dropped == {"unreadable": 1}


def test_messages_of_another_acquisition_that_came_too_early_are_counted(gui: Gui) -> None:
    for sample in range(0, 30 * N, N):
        gui.block(sample)
    gui.number = 40
    gui.spike(10)
    gui.number += 2
    gui.send(data_frames(gui.number, 1, 0, N))
    gui.block(N)
    gui.block(2 * N)
    assert gui.counters.dropped == {"lost_messages": 40 + 1}
    assert [p.source_ns for p in gui.of("samples")][30:] == [ns(N), ns(2 * N)]
    assert gui.spikes == []


@pytest.mark.parametrize("hours", [2, -2, 1000])
def test_a_clock_that_jumps_by_hours_begins_a_segment(hours: int) -> None:
    gui = Gui()
    first = 10**9
    gui.block(first)
    gui.block(first + N)
    after = first + 2 * N + hours * 3600 * round(RATE)
    gui.spike(after + 5, "b")
    gui.block(after)
    gui.block(after + N)
    assert [p.segment for p in gui.of("samples")] == [0, 1, 1]
    assert gui.spikes == [(after + 5, 1)]
    assert gui.of("samples")[-1].t_ns == gui.now_ns
    gui.acquisition.note()
    assert gui.counters.notes["clock_jumps"] == 1
    assert "acquisitions" not in gui.counters.notes


def test_hours_in_which_this_program_slept_are_a_hole_and_no_jump(gui: Gui) -> None:
    gui.block(0)
    gui.number += 10**6
    gui.block(3600 * round(RATE), after_ns=3600 * 10**9)
    assert {p.segment for p in gui.packets} == {0}
    gui.acquisition.note()
    assert gui.counters.notes["missing_samples"] == 3600 * RATE - N


def test_a_rate_that_changes_stops_the_samples_only(gui: Gui) -> None:
    gui.spike(20)
    gui.block(0, sample_rate=20_000.0)
    assert gui.spikes == [(20, 0)]
    assert gui.of("samples") == []
    assert gui.counters.dropped == {"other_rate": 2}


def test_a_rate_that_was_never_true_is_measured_and_told(gui: Gui, caplog) -> None:
    for block in range(1000):
        gui.block(block * N, after_ns=15 * MS)
    gui.acquisition.note()
    assert gui.counters.notes["measured_hz"] == pytest.approx(20_000, rel=1e-3)
    assert gui.counters.notes["stated_hz"] == 30_000
    assert "states 30000 Hz, but sends 20000" in caplog.text


def test_a_stream_or_a_unit_that_is_not_expected_is_counted_and_logged_once(
    gui: Gui, caplog
) -> None:
    for sample in range(0, 3000, N):
        gui.spike(sample + 5, "z")
        gui.block(sample, stream="other")
    assert gui.packets == []
    assert gui.counters.dropped == {"other_unit": 10, "other_stream": 20}
    assert len(caplog.records) == 2


def test_a_spike_of_an_impossible_time_is_counted_and_the_others_pass(gui: Gui) -> None:
    gui.block(0)
    gui.spike(10**8)
    gui.spike(-(10**8))
    gui.spike(N + 5)
    gui.block(N)
    assert gui.spikes == [(N + 5, 0)]
    gui.acquisition.note()
    assert gui.counters.notes["implausible_times"] == 2


def test_a_block_that_comes_late_keeps_the_time_at_which_it_was_taken(gui: Gui) -> None:
    for sample in range(0, 3000, N):
        gui.block(sample)
    gui.block(3000, after_ns=18 * MS)
    late = gui.of("samples")[-1]
    assert late.t_ns == gui.now_ns - 8 * MS
    assert gui.of("")[-1].t_ns == late.t_ns - ns(HELD_SAMPLES)
    gui.acquisition.note()
    assert gui.counters.notes["worst_block_late_ms"] == 8


def test_a_spike_that_comes_too_late_is_passed_on_and_counted(gui: Gui) -> None:
    gui.block(0)
    gui.block(N)
    gui.spike(50)
    gui.block(2 * N)
    assert gui.spikes == [(50, 0)]
    gui.acquisition.note()
    assert gui.counters.notes["late_spikes"] == 1


def test_without_blocks_spikes_leave_when_they_are_old_enough_and_the_clock_goes_on() -> None:
    gui = Gui(blocks=False)
    gui.spike(1000)
    gui.spike(1200, "b")
    gui.edge(1300, 1, True)
    assert gui.acquisition.elapse(START_NS + 1 * MS) == []
    gui.now_ns += 70 * MS
    gui.edge(3100, 1, False)
    gui.packets += gui.acquisition.elapse(gui.now_ns)
    assert gui.spikes == [(1000, 0), (1200, 1)]
    assert [p.source_ns for p in gui.of("ttl") if p.data.any()] == [ns(1300)]
    gui.now_ns += 50 * MS
    (empty,) = [p for p in gui.acquisition.elapse(gui.now_ns) if p.output == ""]
    assert len(empty.data) == 0
    assert empty.source_end_ns - gui.of("")[-1].source_end_ns == pytest.approx(50 * MS, abs=1e5)


@given(
    st.lists(st.tuples(st.integers(0, 5999), st.sampled_from("abc")), max_size=60),
    st.lists(st.integers(200, 900), min_size=8, max_size=20),
)
@settings(max_examples=30, deadline=None)
def test_bins_of_what_arrives_are_those_of_what_was_sent(
    spikes: list[tuple[int, str]], sizes: list[int]
) -> None:
    """Whatever the blocks, as long as spikes come as the GUI sends them."""
    gui = Gui(linked=frozenset({""}), channels=(0,))
    gui.number = 0
    gui.block(-N)
    start = 0
    for n in sizes:
        for sample, unit in spikes:
            if start - HELD_SAMPLES <= sample < start + n - HELD_SAMPLES:
                gui.spike(sample, unit)
        gui.block(start, n)
        start += n
    bins = SpikesBin(BinSettings(width=0.005))
    inputs = {"probe": StreamSpec("spikes", (None, 2), "int64", ("a", "b", "c"))}
    context = Context("bins", inputs, run_dir=None)  # type: ignore[arg-type]
    bins.open(context)
    counted = [b for p in gui.of("") for b in bins.process("probe", p)]
    assert context.counters.dropped == {}
    origin = gui.of("")[0].source_ns
    expected = np.zeros((len(counted), 3))
    for sample, unit in spikes:
        row = (ns(sample) - origin) // (5 * MS)
        if ns(sample) >= origin and row < len(counted):
            expected[row, "abc".index(unit)] += 1
    assert np.array_equal([b.data for b in counted], expected)
