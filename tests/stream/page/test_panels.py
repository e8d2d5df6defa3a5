"""What the page is told of each kind of stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.music.notes import events, note_off, note_on, notes_spec
from stream.node import Counters, StreamSpec
from stream.packet import Packet
from stream.page.panels.kinds import panel_class

UNITS = ("a", "b", "c")
SPIKES = StreamSpec("spikes", (None, 2), "int64", UNITS)
MS = 1_000_000


def make(spec: StreamSpec):
    cls = panel_class(spec)
    assert cls is not None
    panel = cls("stream", spec, Counters())
    assert panel.take() is None
    return panel


def add(panel, data, begin_ms: int = 0, end_ms: int = 1, **more) -> None:
    packet = Packet(
        panel.spec.kind, np.asarray(data, panel.spec.dtype), 0, begin_ms * MS, end_ms * MS, **more
    )
    panel.add(packet)


def floats(data: bytes) -> list[float]:
    return np.frombuffer(data, "<f4").tolist()


def test_spikes_keep_their_times_and_units_over_many_packets() -> None:
    panel = make(SPIKES)
    for ms in range(10):
        add(panel, [[ms * MS, ms % 3], [ms * MS + MS // 2, 1]], ms, ms + 1)
    chunk = panel.take()
    assert chunk["t"] == pytest.approx(0.010)
    assert chunk["n"] == 10
    assert chunk["hz"] == pytest.approx(2000)
    assert floats(chunk["at"])[:2] == pytest.approx([0.010, 0.0095])
    assert np.frombuffer(chunk["unit"], "<u2").tolist()[:4] == [0, 1, 1, 1]
    assert panel.take() is None


def test_packets_that_did_not_come_are_told_where_each_matters() -> None:
    panel, rates = make(SPIKES), make(StreamSpec("rates", (1,), "float32"))
    for seq in (3, 4, 9):
        add(panel, np.empty((0, 2)), seq=seq)
        add(rates, [1], seq=seq)
    assert (panel.take()["missed"], rates.take()["missed"]) == (4, 0)
    add(panel, np.empty((0, 2)), seq=10)
    assert panel.take()["missed"] == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=6))
def test_no_burst_makes_a_chunk_grow_without_bound_and_what_is_left_out_is_noted(
    counts: list[int],
) -> None:
    panel = make(SPIKES)
    for ms, count in enumerate(counts):
        spikes = np.zeros((count, 2), np.int64)
        spikes[:, 0] = ms * MS
        add(panel, spikes, ms, ms + 1)
    chunk = panel.take()
    if not counts:
        assert chunk is None
        return
    drawn = len(chunk["unit"]) // 2
    assert drawn == len(chunk["at"]) // 4 <= 2048
    assert drawn + panel.counters.notes.get("spikes_not_drawn", 0) == sum(counts)
    assert chunk["hz"] == pytest.approx(1000 * sum(counts) / len(counts))


def test_counts_are_drawn_in_the_middle_of_their_bin() -> None:
    panel = make(StreamSpec("counts", (3,), "float32", UNITS, "count", 0.02))
    add(panel, [0, 2, 1], 0, 20)
    chunk = panel.take()
    assert floats(chunk["at"]) == pytest.approx([0.01, 0.01])
    assert np.frombuffer(chunk["unit"], "<u2").tolist() == [1, 2]
    assert chunk["hz"] == pytest.approx(150)


def test_rates_are_the_mean_of_what_came() -> None:
    panel = make(StreamSpec("rates", (2,), "float32", ("a", "b"), "Hz"))
    add(panel, [1, 10])
    add(panel, [3, 20])
    assert floats(panel.take()["rates"]) == [2, 15]
    add(panel, [7, 7])
    assert floats(panel.take()["rates"]) == [7, 7]


def test_of_fast_behaviour_some_rows_are_shown_and_always_the_newest() -> None:
    panel = make(StreamSpec("behaviour", (9,), "float32"))
    for ms in range(33):
        add(panel, np.full(9, ms), ms, ms + 1)
    chunk = panel.take()
    at, rows = floats(chunk["at"]), np.frombuffer(chunk["rows"], "<f4").reshape(-1, 6)
    assert len(rows) == len(at) <= 8
    assert rows[-1, 0] == 32
    assert at[-1] == 0
    assert at == sorted(at, reverse=True)


@pytest.mark.parametrize(
    ("p", "meta", "label", "share"),
    [
        ([0.1, 0.7, 0.2], {}, "b", 0.7),
        ([0.1, 0.7, 0.2], {"label": "unknown", "probability": 1.0}, "unknown", 1.0),
        ([np.nan] * 3, {}, "", 0.0),
    ],
)
def test_a_label_is_what_its_packet_says_or_else_the_most_probable(p, meta, label, share) -> None:
    panel = make(StreamSpec("action", (3,), "float32", UNITS))
    add(panel, p, meta=meta)
    chunk = panel.take()
    assert chunk["label"] == label
    assert chunk["share"] == pytest.approx(share)


def test_notes_are_told_whole_so_that_a_lost_update_leaves_none_stuck() -> None:
    panel = make(notes_spec(0.1))
    add(panel, events([note_on(60, 80)]), 0, 0)
    add(panel, events([note_on(64, 80), note_off(60)]), 500, 500)
    pitch, velocity, on_s, off_s, end_s = floats(panel.take()["notes"])[:5]
    assert (pitch, velocity) == (60, 80)
    assert (on_s, off_s, end_s) == pytest.approx((0.5, 0, 0))
    add(panel, events([]), 9000, 9000)
    rows = np.frombuffer(panel.take()["notes"], "<f4").reshape(-1, 5)
    assert rows[:, 0].tolist() == [64], "who was silent for long is forgotten, who sounds is not"
    add(panel, [[20, 1, 1]], 9100, 9100)
    assert panel.counters.dropped == {"no_midi_messages": 1}


def test_every_edge_of_a_graph_is_seen_and_nothing_else() -> None:
    panel = make(StreamSpec("graph", (3, 3, 3), "float32", UNITS))
    graph = np.zeros((3, 3, 3))
    graph[0, 1] = [1, 0.5, 0.01]
    graph[1, 2] = [1, -1e-6, 0.01]
    graph[2, 0] = [0, 9, 0.9]
    add(panel, graph, meta={"effective": 900, "note": "text"})
    chunk = panel.take()
    steps = np.frombuffer(chunk["weights"], np.int8).reshape(3, 3)
    assert steps.tolist() == [[0, 127, 0], [0, 0, -1], [0, 0, 0]]
    assert chunk["edges"] == 2
    assert chunk["top"] == pytest.approx(0.5)
    assert chunk["facts"] == {"effective": 900}


def test_a_rule_that_fired_between_two_updates_is_seen_and_counted() -> None:
    panel = make(StreamSpec("trigger", (2,), "uint8", ("fast", "left")))
    for on in ([0, 0], [1, 0], [1, 1], [0, 0]):
        add(panel, on)
    chunk = panel.take()
    assert (list(chunk["on"]), list(chunk["now"]), chunk["count"]) == ([1, 1], [0, 0], [2, 1])
    add(panel, [0, 0])
    assert list(panel.take()["on"]) == [0, 0]


def test_of_what_comes_only_with_a_change_silence_is_no_news() -> None:
    armed = StreamSpec("levels", (1,), "uint8", ("armed",), meta={"on_change": True})
    assert make(armed).describe()["on_change"]
    assert not make(SPIKES).describe()["on_change"]


def test_a_level_that_holds_counts_once() -> None:
    panel = make(StreamSpec("levels", (1,), "uint8", ("held",)))
    for level in (0, 1, 1, 0, 1):
        add(panel, [level])
    chunk = panel.take()
    assert (list(chunk["on"]), list(chunk["now"]), chunk["count"]) == ([1], [1], [2])


def test_no_frame_is_touched_while_nobody_looks() -> None:
    pytest.importorskip("cv2", reason="needs the extra 'vision'")
    panel = make(StreamSpec("frame", (90, 960, 3), "uint8"))
    panel.watched = lambda: False
    add(panel, np.zeros((90, 960, 3)))
    assert "jpeg" not in panel.take()
    panel.watched = lambda: True
    add(panel, np.zeros((90, 960, 3)))
    assert panel.take()["jpeg"].shape == (45, 480, 3)


def samples(channels: int = 12, rate_hz: float = 30_000):
    return StreamSpec("samples", (None, channels), "float32", unit="uV", meta={"rate_hz": rate_hz})


def columns(chunk) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return when columns begin (s), and their lowest and highest values."""
    at = chunk["t"] - np.frombuffer(chunk["at"], "<f4")
    channels = np.frombuffer(chunk["channels"], "<u2")
    low, high = (np.frombuffer(chunk[k], "<f4").reshape(-1, len(channels)) for k in ("low", "high"))
    return at, low, high


def test_no_sample_of_a_trace_is_lost_between_its_columns_and_packets() -> None:
    panel = make(samples())
    data = np.random.default_rng(0).normal(size=(1500, 12))
    data[700, 3] = 50
    for ms in range(50):
        add(panel, data[30 * ms : 30 * ms + 30], 5 + ms, 6 + ms)
    at, low, high = columns(panel.take())
    assert at == pytest.approx([0, 0.01, 0.02, 0.03, 0.04, 0.05], abs=1e-6)
    edges = [0, 150, 450, 750, 1050, 1350]
    data = data[:, :8].astype(np.float32)
    assert np.array_equal(low, np.minimum.reduceat(data, edges))
    assert np.array_equal(high, np.maximum.reduceat(data, edges))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 700), min_size=1, max_size=20), st.integers(1, 30))
def test_traces_are_the_same_however_the_stream_was_cut(sizes: list[int], ms: int) -> None:
    data = np.random.default_rng(1).normal(size=(sum(sizes), 3)).astype(np.float32)
    whole, cut = make(samples(3, 10_000)), make(samples(3, 10_000))
    begin = 0
    for size in sizes:
        piece = data[begin : begin + size]
        packet = Packet(
            "samples", piece, 0, ms * MS + begin * 100_000, ms * MS + (begin + size) * 100_000
        )
        cut.add(packet)
        begin += size
    whole.add(Packet("samples", data, 0, ms * MS, ms * MS + begin * 100_000))
    one, other = whole.take(), cut.take()
    assert {k: one.get(k) for k in ("at", "low", "high")} == {
        k: other.get(k) for k in ("at", "low", "high")
    }


def test_a_hole_in_a_trace_is_none_of_its_columns_and_nan_is_no_extreme() -> None:
    panel = make(samples(1))
    add(panel, np.r_[np.nan, np.ones(299)][:, None], 0, 10)
    add(panel, np.full((300, 1), np.nan), 50, 60)
    at, low, high = columns(panel.take())
    assert at == pytest.approx([0, 0.05], abs=1e-6)
    assert low[:, 0].tolist()[0] == high[:, 0].tolist()[0] == 1
    assert np.isnan(low[1, 0])


def test_the_channels_that_are_drawn_can_be_chosen_among_those_that_are_there() -> None:
    panel = make(samples())
    assert panel.describe()["drawn"] == 8
    wanted = [11, 0, 5, 5, 1, 2, 3, 4]
    assert panel.choose(wanted)
    for bad in ([0] * 7, [0] * 9, [*wanted[1:], 12], [*wanted[1:], -1]):
        assert not panel.choose(bad)
    add(panel, np.arange(12)[None], 0, 1)
    chunk = panel.take()
    assert np.frombuffer(chunk["channels"], "<u2").tolist() == wanted
    assert columns(chunk)[1].tolist() == [wanted]


def test_no_sample_is_touched_while_nobody_looks() -> None:
    panel = make(samples())
    panel.watched = lambda: False
    add(panel, np.ones((30, 12)))
    assert "at" not in panel.take()
    panel.watched = lambda: True
    add(panel, np.ones((30, 12)))
    assert "at" in panel.take()


@pytest.mark.parametrize(
    "spec",
    [
        StreamSpec("samples", (4, None), "float32"),
        StreamSpec("samples", (None, 4), "float32"),
        StreamSpec("skeleton", (20, 3), "float32"),
        StreamSpec("keypoints", (20, 3), "float32", meta={"layout": "of somebody else"}),
        StreamSpec("action", (3,), "float32"),
        StreamSpec("rates", (3, 3), "float32"),
        StreamSpec("rates", (None,), "float32"),
    ],
)
def test_what_cannot_be_shown_has_no_panel(spec) -> None:
    assert panel_class(spec) is None
