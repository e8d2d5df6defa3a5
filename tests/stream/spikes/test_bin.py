from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from stream.errors import ConfigError
from stream.node import Context, StreamSpec
from stream.packet import Packet
from stream.spikes.bin import BinSettings, SpikesBin
from stream.spikes.recording import Recording, bin_recording
from stream.spikes.replay import play

MS = 1_000_000
NAMES = ("a", "b", "c")
SPIKES = StreamSpec("spikes", (None, 2), "int64", NAMES)
COUNTS = StreamSpec("counts", (3,), "uint8", NAMES, "count", 0.001)


def binner(spec=SPIKES, width=0.005, **more) -> SpikesBin:
    node = SpikesBin(BinSettings(width=width, **more))
    inputs = {"probe": spec}
    node.outputs(inputs)
    node.open(Context("bins", inputs, Path()))
    return node


def spikes(start_ms, end_ms, *pairs, **more) -> Packet:
    """Spikes given as (ms, unit)."""
    data = np.array([(round(t * MS), u) for t, u in pairs], dtype=np.int64).reshape(-1, 2)
    return Packet("spikes", data, end_ms + 7, round(start_ms * MS), round(end_ms * MS), **more)


def row(start_ms, values, width_ms=1, **more) -> Packet:
    start = round(start_ms * MS)
    return Packet("counts", np.array(values), 0, start, start + width_ms * MS, **more)


def feed(node, *packets):
    return [bin_ for packet in packets for bin_ in node.process("probe", packet)]


def edges_ms(bins):
    return [(b.source_ns / MS, b.source_end_ns / MS) for b in bins]


def drops(node):
    return node.context.counters.dropped


def test_bins_are_half_open_and_stamped_by_the_packet_that_closed_them():
    node = binner()
    assert feed(node, spikes(0, 4, (0, 0), (3.9, 2))) == []
    first, second = feed(node, spikes(4, 10, (4.999999, 2), (5, 1)))
    assert first.data.tolist() == [1, 0, 2]
    assert second.data.tolist() == [0, 1, 0]
    assert first.data.dtype == np.float32
    assert edges_ms([first, second]) == [(0, 5), (5, 10)]
    assert first.t_ns == second.t_ns == 17
    assert first.gap == second.gap == 0


def test_the_output_says_what_its_bins_are():
    spec = SpikesBin(BinSettings(width=0.005, units=("c", "a"))).outputs({"probe": SPIKES})[""]
    assert spec == StreamSpec("counts", (2,), "float32", ("c", "a"), "count", 0.005)


def test_empty_bins_are_sent_too():
    bins = feed(binner(), *(spikes(t, t + 1) for t in range(20)))
    assert edges_ms(bins) == [(0, 5), (5, 10), (10, 15), (15, 20)]
    assert not np.any([b.data for b in bins])


def test_the_grid_starts_where_the_segment_starts():
    node = binner()
    bins = feed(node, spikes(3, 9, (8.5, 0)), spikes(9, 14, (10, 0), segment=1))
    assert edges_ms(bins) == [(3, 8), (9, 14)]
    assert [b.segment for b in bins] == [0, 1]
    assert bins[1].data.tolist() == [1, 0, 0]
    assert node.context.counters.notes["spikes_in_unfinished_bins"] == 1
    feed(node, spikes(14, 15, (14, 1), segment=1))
    node.finish()
    assert node.context.counters.notes["spikes_in_unfinished_bins"] == 2


def test_spikes_out_of_order_count_in_the_open_bin_and_late_ones_are_counted_as_late():
    node = binner()
    feed(node, spikes(0, 7, (6.5, 0), (5.5, 0), (2, 1)))
    (closed,) = feed(node, spikes(7, 10, (9, 0), (5, 2), (4.9, 1), (2, 1)))
    assert closed.data.tolist() == [3, 0, 1]
    assert drops(node) == {"late": 2}


def test_spikes_that_a_packet_does_not_cover_are_counted_as_early():
    node = binner()
    (closed,) = feed(node, spikes(0, 5, (1, 0), (5, 0), (99, 1)))
    assert closed.data.tolist() == [1, 0, 0]
    assert drops(node) == {"early": 2}


def test_spikes_of_units_that_are_not_there_are_counted_once():
    node = binner()
    (closed,) = feed(node, spikes(0, 5, (1, 0), (1, 3), (1, -1), (99, 7)))
    assert closed.data.tolist() == [1, 0, 0]
    assert drops(node) == {"unit": 3}


def test_units_are_selected_and_ordered_by_name():
    node = binner(units=("c", "a"))
    one, two = feed(node, spikes(0, 10, (1, 0), (2, 1), (3, 2), (4, 2), (6, 0), (7, 1)))
    assert one.data.tolist() == [2, 1]
    assert two.data.tolist() == [0, 1]
    (summed,) = feed(binner(COUNTS, 0.002, units=("c", "a")), row(0, [1, 2, 3]), row(1, [1, 2, 3]))
    assert summed.data.tolist() == [6, 2]


@pytest.mark.parametrize(
    ("units", "words"),
    [
        (("unit01", "unit03"), ("'unit03'", "'probe'", "'unit02' or 'unit01'")),
        (("x",), ("'x'", "it has unit01, unit02.")),
        (("unit01", "unit01"), ("'unit01' twice",)),
        ((), ("names no unit",)),
    ],
)
def test_a_selection_that_cannot_be_is_refused_with_near_names(units, words):
    spec = StreamSpec("spikes", (None, 2), "int64", ("unit01", "unit02"))
    with pytest.raises(ConfigError) as error:
        SpikesBin(BinSettings(width=0.005, units=units)).outputs({"probe": spec})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("width", ["10 us", "-5 ms", 5, "0 ms"])
def test_a_width_that_no_bin_has_is_refused(width):
    with pytest.raises(ValidationError):
        BinSettings(width=width)


def test_bins_that_do_not_fit_into_bins_are_refused_naming_both():
    spec = StreamSpec("counts", (3,), "uint8", NAMES, "count", 0.05)
    for width in (0.02, 0.12):
        with pytest.raises(ConfigError, match=r"'probe' has bins of 50 ms.*multiple of 50 ms"):
            SpikesBin(BinSettings(width=width)).outputs({"probe": spec})
    with pytest.raises(ConfigError, match="does not say how wide"):
        SpikesBin(BinSettings(width=0.1)).outputs(
            {"probe": StreamSpec("counts", (3,), "u1", NAMES)}
        )
    with pytest.raises(ConfigError, match="does not name its units"):
        SpikesBin(BinSettings(width=0.1)).outputs({"probe": StreamSpec("spikes", (None, 2), "i8")})


def test_counts_of_the_same_width_pass_and_finer_ones_are_summed():
    one = feed(binner(COUNTS, 0.001), row(0, [1, 0, 2]), row(1, [0, 0, 1]))
    assert [b.data.tolist() for b in one] == [[1, 0, 2], [0, 0, 1]]
    (both,) = feed(binner(COUNTS, 0.002), row(0, [1, 0, 2]), row(1, [0, 0, 1]))
    assert both.data.tolist() == [1, 0, 3]
    assert edges_ms([both]) == [(0, 2)]


@pytest.mark.parametrize(
    ("values", "reason"),
    [([0, np.nan, 1], "not finite"), ([0, np.inf, 1], "not finite"), ([0.0, -1, 1], "negative")],
)
def test_counts_that_cannot_be_are_refused_and_mark_their_bin(values, reason):
    node = binner(COUNTS, 0.002)
    bins = feed(node, row(0, values), row(1, [1, 1, 1]), row(2, [0, 0, 0]), row(3, [0, 0, 0]))
    assert [(b.data.tolist(), b.gap) for b in bins] == [([1, 1, 1], 1), ([0, 0, 0], 0)]
    assert drops(node) == {reason: 1}


def test_counts_that_come_twice_are_late():
    node = binner(COUNTS, 0.002)
    bins = feed(node, row(0, [1, 0, 0]), row(0, [1, 0, 0]), row(1, [1, 0, 0]))
    assert [b.data.tolist() for b in bins] == [[2, 0, 0]]
    assert drops(node) == {"late": 1}


def test_counts_a_rounding_error_off_the_grid_are_taken():
    spec = StreamSpec("counts", (3,), "uint8", NAMES, "count", 1 / 60)
    node = binner(spec, 1 / 60)
    packets = [
        Packet("counts", np.ones(3), 0, round(k / 60 * 1e9), round((k + 1) / 60 * 1e9))
        for k in range(50)
    ]
    bins = feed(node, *packets)
    assert len(bins) == 50
    assert not any(b.gap for b in bins)
    assert drops(node) == {}


def test_bins_that_lost_packets_touch_are_sent_and_marked():
    lost = feed(
        binner(), spikes(0, 3, seq=1), spikes(12, 15, (12, 0), seq=5), spikes(15, 20, seq=6)
    )
    assert [b.gap for b in lost] == [1, 1, 1, 0]
    refused_upstream = feed(binner(), spikes(0, 3), spikes(3, 5, gap=2), spikes(5, 10))
    assert [b.gap for b in refused_upstream] == [1, 0]
    to_an_edge = feed(binner(), spikes(0, 3, seq=1), spikes(5, 10, seq=3))
    assert [b.gap for b in to_an_edge] == [1, 0]


def test_a_packet_that_cannot_be_read_is_refused_and_marks_the_bin():
    for bad, reason in (
        (Packet("rates", np.zeros((0, 2), np.int64), 0, 0, MS), "kind"),
        (Packet("spikes", np.zeros((1, 3), np.int64), 0, 0, MS), "shape"),
        (Packet("spikes", np.zeros(2, np.int64), 0, 0, MS), "shape"),
        (Packet("spikes", np.zeros((1, 2)), 0, 0, MS), "shape"),
        (Packet("spikes", np.zeros((0, 2), np.int64), 0, MS, 0), "span"),
        (Packet("spikes", np.zeros((0, 2), np.int64), 0, 0, 2**80), "span"),
        (Packet("spikes", np.zeros((0, 2), np.int64), 0, 2**63 - 5, 2**63 - 1), "span"),
    ):
        node = binner()
        bins = feed(node, spikes(0, 1), bad, spikes(1, 5), spikes(5, 10))
        assert drops(node) == {reason: 1}
        assert [b.gap for b in bins] == [1, 0]


def test_a_source_that_jumps_ahead_starts_a_new_segment_instead_of_hours_of_empty_bins():
    node = binner()
    bins = feed(node, spikes(0, 5), spikes(3_600_002, 3_600_007, (3_600_003, 1)))
    assert edges_ms(bins) == [(0, 5), (3_600_002, 3_600_007)]
    assert bins[1].data.tolist() == [0, 1, 0]
    assert [b.segment for b in bins] == [0, 1]
    assert bins[1].gap == 3_599_997 // 5
    assert node.context.counters.notes["clock_jumps"] == 1
    (later,) = feed(node, spikes(3_600_007, 3_600_012))
    assert (later.segment, later.gap) == (1, 0)


def test_a_source_that_goes_back_far_starts_a_new_segment():
    node = binner()
    bins = feed(node, spikes(9000, 9005), spikes(0, 5, (1, 0)))
    assert edges_ms(bins) == [(9000, 9005), (0, 5)]
    assert [(b.segment, b.gap) for b in bins] == [(0, 0), (1, 1)]
    assert node.context.counters.notes["clock_jumps"] == 1
    assert drops(node) == {}


def test_a_source_that_goes_back_a_little_is_refused_until_it_catches_up():
    node = binner()
    feed(node, spikes(0, 100))
    assert feed(node, spikes(50, 60, (55, 0)), spikes(60, 100, (70, 1))) == []
    (bin_,) = feed(node, spikes(100, 105, (101, 0)))
    assert bin_.data.tolist() == [1, 0, 0]
    assert drops(node) == {"late": 2}


def test_a_new_segment_of_the_source_after_a_jump_is_a_new_segment_again():
    node = binner()
    bins = feed(node, spikes(0, 5), spikes(5000, 5005), spikes(6000, 6005, segment=1))
    assert [b.segment for b in bins] == [0, 1, 2]


@st.composite
def recordings(draw):
    """Recordings of one or several segments, with or without unobserved time between them."""
    start_ns = draw(st.integers(-(10**9), 10**12))
    bounds_ns = []
    at = start_ns
    for _ in range(draw(st.integers(1, 4))):
        end = at + draw(st.integers(1, 60 * MS))
        bounds_ns.append((at, end))
        at = end + draw(st.sampled_from([0, 0, 3 * MS, 2_000 * MS]))
    times = []
    for _ in range(draw(st.integers(1, 4))):
        inside = st.sampled_from(bounds_ns).flatmap(lambda b: st.integers(b[0], b[1] - 1))
        edges = st.sampled_from([a for a, _ in bounds_ns])
        times.append(np.sort(np.array(draw(st.lists(inside | edges, max_size=30)), dtype=float)))
    bounds = np.array(bounds_ns) / 1e9
    return Recording(
        name="drawn",
        units=tuple(f"u{i}" for i in range(len(times))),
        start_s=bounds[0, 0],
        stop_s=bounds[-1, 1],
        segment_starts_s=bounds[:, 0],
        segment_stops_s=bounds[:, 1],
        spike_times_s=tuple(t / 1e9 for t in times),
    )


def check_same_bins(recording, width_s, packets, laps=1):
    spec = (
        StreamSpec("spikes", (None, 2), "int64", recording.units)
        if recording.counts is None
        else StreamSpec("counts", (1,), "u1", recording.units, "count", recording.width_s)
    )
    node = binner(spec, width_s)
    bins = feed(node, *packets)
    node.finish()
    assert drops(node) == {}
    assert not any(b.gap for b in bins)
    expected = bin_recording(recording, width_s)
    n_segments = len(recording.segment_starts_s)
    length_ns = round((recording.stop_s - recording.start_s) * 1e9)
    n = len(expected.counts)
    assert len(bins) == laps * n
    for i, bin_ in enumerate(bins):
        lap, k = divmod(i, n)
        assert bin_.source_ns == expected.starts_ns[k] + lap * length_ns
        assert bin_.source_end_ns - bin_.source_ns == round(width_s * 1e9)
        assert bin_.segment == expected.segment[k] + lap * n_segments
        assert np.array_equal(bin_.data, expected.counts[k])


@settings(max_examples=150, deadline=None)
@given(
    recording=recordings(),
    width_ns=st.sampled_from([100_000, MS, 3 * MS, 5 * MS, 20 * MS]) | st.integers(10**5, 9 * MS),
    chunk_ns=st.sampled_from([MS, 5 * MS, 900 * MS]) | st.integers(10**5, 40 * MS),
    laps=st.integers(1, 2),
)
def test_live_bins_of_spikes_are_the_bins_of_training(recording, width_ns, chunk_ns, laps):
    bounds = np.stack([recording.segment_starts_s, recording.segment_stops_s])
    if not ((np.round(bounds * 1e9)[1] - np.round(bounds * 1e9)[0]) // width_ns).any():
        return
    packets = [packet for _, packet in play(recording, chunk_ns / 1e9, laps)]
    check_same_bins(recording, width_ns / 1e9, packets, laps)


@settings(max_examples=80, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=6, max_size=60),
    starts=st.sets(st.integers(1, 59)),
    own_s=st.sampled_from([0.001, 0.05, 1 / 60, 1 / 30, 0.0166]),
    factor=st.integers(1, 3),
    start_s=st.sampled_from([0.0, 0.1, 123.4567]),
)
def test_live_bins_of_counts_are_the_bins_of_training(counts, starts, own_s, factor, start_s):
    rows = [0, *sorted(k for k in starts if k < len(counts))]
    recording = Recording(
        name="drawn",
        units=("a",),
        start_s=start_s,
        stop_s=start_s + len(counts) * own_s,
        segment_starts_s=start_s + np.array(rows) * own_s,
        counts=np.array(counts, dtype=np.uint8)[:, None],
        width_s=own_s,
    )
    width_s = round(own_s * 1e9) * factor / 1e9
    if max(np.diff([*rows, len(counts)])) < factor:
        return
    check_same_bins(recording, width_s, [packet for _, packet in play(recording)])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_comes_in_bins_stay_ordered_within_segments_and_nothing_is_raised(data):
    node = binner(width=0.01)
    times = st.integers(-(2**63), 2**63 - 1) | st.integers(-(10**7), 3 * 10**9)
    previous = None
    for _ in range(data.draw(st.integers(1, 8))):
        pairs = data.draw(st.lists(st.tuples(times, st.integers(-2, 4)), max_size=5))
        start = data.draw(times)
        packet = Packet(
            "spikes",
            np.array(pairs, dtype=np.int64).reshape(-1, 2),
            0,
            start,
            start + data.draw(st.integers(-5, 2 * 10**9)),
            segment=data.draw(st.integers(0, 1)),
            seq=data.draw(st.integers(0, 3)),
        )
        for bin_ in feed(node, packet):
            if previous is not None and bin_.segment == previous.segment:
                assert bin_.source_ns == previous.source_end_ns
            assert bin_.source_end_ns - bin_.source_ns == 10 * MS
            assert np.isfinite(bin_.data).all()
            assert (bin_.data >= 0).all()
            previous = bin_
