import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from stream.errors import ConfigError, RecordingError
from stream.node import Context, StreamSpec
from stream.spikes.bin import BinSettings, SpikesBin
from stream.spikes.importing import import_files
from stream.spikes.mapping import load_mapping
from stream.spikes.nwb import write_recording
from stream.spikes.recording import Recording, Series, bin_recording
from stream.spikes.replay import ReplaySettings, SpikesReplay, cut, play

MS = 1_000_000
TIMES = (
    np.array([1.0, 1.0004, 1.0021, 1.0100]),
    np.array([1.0004, 1.0052]),
    np.array([1.0059, 1.0070, 1.0119]),
)
BY_TIMES = Recording(
    name="session",
    units=("a", "b", "c"),
    start_s=1.0,
    stop_s=1.012,
    segment_starts_s=np.array([1.0, 1.0065]),
    spike_times_s=TIMES,
    behaviour={
        "hand_vel": Series(
            np.array([1.0, 1.004, 1.008]), np.array([[1.0, 2], [3, 4], [5, 6]]), ("x", "y"), "m/s"
        )
    },
    true_rates=Series(
        np.array([1.0, 1.005, 1.01]), np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]), ("a", "b", "c")
    ),
)
BY_COUNTS = Recording(
    name="binned",
    units=("a", "b"),
    start_s=0.0,
    stop_s=0.5,
    segment_starts_s=np.array([0.0, 0.2]),
    counts=np.arange(20, dtype=np.uint8).reshape(10, 2),
    width_s=0.05,
)


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "session.nwb"
    write_recording(BY_TIMES, path)
    return path


@pytest.fixture
def binned(tmp_path: Path) -> Path:
    path = tmp_path / "binned.npz"
    np.savez(
        path, counts=BY_COUNTS.counts, width_s=0.05, units=np.array(["a", "b"]),
        segment_starts_s=BY_COUNTS.segment_starts_s,
    )  # fmt: skip
    return path


def replay(path: Path, **more) -> SpikesReplay:
    node = SpikesReplay(ReplaySettings(file=path, **more))
    node.outputs({})
    node.open(Context("probe", {}, path.parent))
    return node


def run(node: SpikesReplay, start_ns: int = 0):
    """Everything that a node emits when all of it is due."""
    node.start(start_ns)
    packets = []
    while not node.finished:
        packets.extend(node.tick())
    return packets


def of(packets, output=""):
    return [p for p in packets if p.output == output]


def pairs(packet):
    return [(t / MS, u) for t, u in packet.data.tolist()]


def test_a_recording_says_what_it_streams_before_it_runs(session: Path):
    specs = SpikesReplay(ReplaySettings(file=session)).outputs({})
    assert specs[""].kind == "spikes"
    assert specs[""].names == ("a", "b", "c")
    assert specs[""].meta["recording"] == "session"
    assert specs["hand_vel"] == StreamSpec(
        "behaviour", (2,), "float32", ("x", "y"), "m/s", pytest.approx(0.004)
    )
    assert specs["true_rates"].kind == "rates"
    assert specs["true_rates"].unit == "Hz"
    assert specs["true_rates"].period_s == pytest.approx(0.005)


def test_spikes_come_in_chunks_that_end_with_the_segment(session: Path):
    chunks = of(run(replay(session, chunk=0.002)))
    spans = [(p.source_ns / MS, p.source_end_ns / MS, p.segment) for p in chunks]
    assert spans == [
        (1000, 1002, 0), (1002, 1004, 0), (1004, 1006, 0), (1006, 1006.5, 0),
        (1006.5, 1008.5, 1), (1008.5, 1010.5, 1), (1010.5, 1012, 1),
    ]  # fmt: skip
    assert [pairs(p) for p in chunks] == [
        [(1000, 0), (1000.4, 0), (1000.4, 1)], [(1002.1, 0)], [(1005.2, 1), (1005.9, 2)], [],
        [(1007, 2)], [(1010, 0)], [(1011.9, 2)],
    ]  # fmt: skip
    assert all(p.data.dtype == np.int64 for p in chunks)


def test_packets_are_stamped_with_the_deadline_at_which_their_data_existed(session: Path):
    for speed in (1, 0.5, 20.0):
        packets = run(replay(session, speed=speed), start_ns=1000)
        assert [p.t_ns for p in packets] == [
            1000 + round((p.source_end_ns - 1000 * MS) / speed) for p in packets
        ]
    assert [p.t_ns for p in packets] == sorted(p.t_ns for p in packets)


def test_nothing_is_emitted_before_it_is_due(session: Path):
    node = replay(session)
    assert node.due_ns() is None
    hour_ns = 3_600_000_000_000
    start_ns = time.monotonic_ns() + hour_ns
    node.start(start_ns)
    assert node.due_ns() == start_ns
    assert list(node.tick()) == []
    assert not node.finished


def test_after_a_late_wake_up_everything_due_follows_in_order_and_is_noted(session: Path):
    node = replay(session)
    late = run(node, time.monotonic_ns() - 1000 * MS)
    assert [p.source_end_ns for p in late] == [p.source_end_ns for p in run(replay(session))]
    assert node.context.counters.notes["late_packets"] == len(late)
    assert node.context.counters.notes["worst_late_ms"] >= 1000


def test_as_fast_as_possible_stamps_the_time_of_handing_over(session: Path):
    before_ns = time.monotonic_ns()
    packets = run(replay(session, speed="max"), start_ns=before_ns)
    assert all(before_ns <= p.t_ns <= time.monotonic_ns() for p in packets)
    assert len(of(packets)) == 13


def test_a_tick_never_keeps_its_process_for_a_whole_recording(binned: Path):
    node = replay(binned, loop=1000, speed="max")
    node.start(0)
    assert 0 < len(list(node.tick())) <= 1000


def test_behaviour_comes_sample_by_sample_between_the_spikes(session: Path):
    packets = run(replay(session))
    samples = of(packets, "hand_vel")
    assert [p.data.tolist() for p in samples] == [[1, 2], [3, 4], [5, 6]]
    assert [p.source_ns / MS for p in samples] == [1000, 1004, 1008]
    assert all(p.source_ns == p.source_end_ns for p in samples)
    assert [p.segment for p in samples] == [0, 0, 1]
    assert samples[0].data.dtype == np.float32
    order = [(p.source_end_ns, p.output) for p in packets]
    assert order == sorted(order, key=lambda item: item[0])


def test_streams_that_nobody_takes_are_not_made(session: Path):
    node = SpikesReplay(ReplaySettings(file=session))
    node.open(Context("probe", {}, session.parent, linked=frozenset({"", "true_rates"})))
    assert {p.output for p in run(node)} == {"", "true_rates"}


def test_true_rates_carry_the_span_for_which_they_hold(session: Path):
    rates = of(run(replay(session)), "true_rates")
    assert [(p.source_ns / MS, p.source_end_ns / MS) for p in rates] == [
        (1000, 1005), (1005, 1006.5), (1010, 1012),
    ]  # fmt: skip
    assert rates[1].data.tolist() == [4, 5, 6]
    assert rates[0].kind == "rates"


def test_counts_come_bin_by_bin(binned: Path):
    node = replay(binned)
    spec = node.outputs({})[""]
    assert spec.kind == "counts"
    assert spec.period_s == 0.05
    packets = run(node)
    assert [p.data.tolist() for p in packets] == BY_COUNTS.counts.tolist()
    assert [p.segment for p in packets] == [0] * 4 + [1] * 6
    assert packets[3].source_end_ns == packets[4].source_ns == 200 * MS


def test_a_chunk_makes_no_sense_for_counts(binned: Path):
    with pytest.raises(ConfigError, match=r"chunk: .*bins of 50 ms"):
        SpikesReplay(ReplaySettings(file=binned, chunk="1 ms")).outputs({})


def test_in_every_lap_the_clock_goes_on_and_segments_are_new(session: Path):
    once, thrice = run(replay(session)), run(replay(session, loop=3))
    assert len(thrice) == 3 * len(once)
    for i, packet in enumerate(thrice):
        lap, k = divmod(i, len(once))
        assert packet.source_ns == once[k].source_ns + lap * 12 * MS
        assert packet.segment == once[k].segment + lap * 2
        assert packet.t_ns == once[k].t_ns + lap * 12 * MS
        assert packet.data.shape == once[k].data.shape
    node = replay(session, loop=True)
    node.start(0)
    for _ in range(3 * len(once)):
        assert list(node.tick())
    assert not node.finished


def test_time_that_was_not_observed_is_skipped_but_stays_on_the_clock():
    gap = replace(
        BY_TIMES,
        segment_starts_s=np.array([1.0, 1.0065]),
        segment_stops_s=np.array([1.002, 1.012]),
        behaviour={},
        true_rates=None,
    )
    timed = list(play(gap, 0.002, loop=2))
    assert [due / MS for due, _ in timed] == [2, 4, 6, 7.5, 9.5, 11.5, 13.5, 15]
    assert [p.source_end_ns / MS for _, p in timed][:4] == [1002, 1008.5, 1010.5, 1012]
    assert [p.source_end_ns / MS for _, p in timed][4:] == [1014, 1020.5, 1022.5, 1024]
    assert sum(len(p.data) for _, p in timed[:4]) == 6


def test_a_stretch_is_bound_to_the_clock_of_the_recording_and_starts_a_segment(session: Path):
    packets = run(replay(session, start="1.003 s", stop=1.0080, chunk=0.005))
    chunks = of(packets)
    spans = [(p.source_ns / MS, p.source_end_ns / MS, p.segment) for p in chunks]
    assert spans == [(1003, 1006.5, 0), (1006.5, 1008, 1)]
    assert [p.source_ns / MS for p in of(packets, "hand_vel")] == [1004]
    assert packets[0].t_ns == of(packets, "hand_vel")[0].t_ns == MS


def test_a_stretch_of_counts_keeps_the_bins_that_lie_in_it_whole():
    part = cut(BY_COUNTS, 0.12, 0.41)
    assert part.counts.tolist() == BY_COUNTS.counts[3:8].tolist()
    assert (part.start_s, part.stop_s) == pytest.approx((0.15, 0.4))
    assert bin_recording(part, 0.05).segment.tolist() == [0, 1, 1, 1, 1]
    assert cut(BY_COUNTS, 0.15, None).counts.tolist() == BY_COUNTS.counts[3:].tolist()


def test_a_stretch_that_is_not_there_is_refused():
    for start, stop in ((0.5, None), (1.01, 1.005), (None, 2.0)):
        with pytest.raises(ConfigError, match=r"covers 1 s to 1\.012 s"):
            cut(BY_TIMES, start, stop)
    with pytest.raises(ConfigError, match="holds nothing"):
        cut(BY_COUNTS, 0.11, 0.14)


def test_units_are_chosen_and_ordered_by_name(session: Path):
    node = replay(session, units=("c", "a"))
    specs = node.outputs({})
    assert specs[""].names == specs["true_rates"].names == ("c", "a")
    packets = run(node)
    assert [u for p in of(packets) for _, u in p.data.tolist()] == [1, 1, 1, 0, 0, 1, 0]
    assert of(packets, "true_rates")[0].data.tolist() == [3, 1]
    with pytest.raises(ConfigError, match=r"no 'z' in .*session\.nwb"):
        SpikesReplay(ReplaySettings(file=session, units=("z",))).outputs({})


def test_behaviour_faster_than_a_kilohertz_is_thinned_evenly_and_noted(tmp_path: Path):
    n = 60
    fast = Series(1.0 + np.arange(n) / 5000, np.arange(n, dtype=float)[:, None], ("x",))
    write_recording(replace(BY_TIMES, behaviour={"force": fast}), tmp_path / "fast.nwb")
    node = replay(tmp_path / "fast.nwb")
    assert node.context.counters.notes["force_thinned_by"] == 5
    assert node.outputs({})["force"].period_s == pytest.approx(0.001)
    assert [p.data[0] for p in of(run(node), "force")] == list(range(0, n, 5))


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(RecordingError, match=r"gone\.nwb"):
        SpikesReplay(ReplaySettings(file=tmp_path / "gone.nwb")).outputs({})


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed": 0}, {"speed": -1}, {"speed": "fast"}, {"speed": float("inf")}, {"speed": True},
        {"loop": 0}, {"loop": "yes"}, {"chunk": "2 s"}, {"chunk": 1}, {"start": 3}, {"lop": True},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError):
        ReplaySettings.model_validate({"file": "x.nwb", **wrong}, context={"from_file": True})


def test_settings_survive_the_way_into_another_process():
    for given in (
        {"file": "x.nwb", "speed": "max", "loop": True, "start": "1.5 s", "chunk": "2 ms"},
        {"file": "x.nwb", "speed": 2, "loop": 3, "units": ["a", "b"]},
    ):
        first = ReplaySettings.model_validate(given, context={"from_file": True})
        again = ReplaySettings.model_validate(first.model_dump(mode="json"))
        assert again == first
        assert type(again.loop) is type(first.loop)


def test_replayed_and_binned_a_file_gives_the_bins_of_training(session: Path):
    node = replay(session, speed="max")
    bins = SpikesBin(BinSettings(width=0.002))
    inputs = {"probe": node.outputs({})[""]}
    bins.outputs(inputs)
    bins.open(Context("bins", inputs, session.parent))
    live = [b.data for p in of(run(node)) for b in bins.process("probe", p)]
    assert np.array_equal(live, bin_recording(BY_TIMES, 0.002).counts)


def test_two_real_trials_at_a_kilohertz_give_the_bins_of_training(shared_data: Path):
    folder = shared_data / "spikes" / "mc_maze_trials"
    mapping = load_mapping(Path(__file__).parents[3] / "configs" / "import" / "mc_maze_trials.yaml")
    recording = import_files(sorted(folder.glob("*.csv")), mapping).recording
    spec = StreamSpec("counts", (182,), "uint8", recording.units, "count", recording.width_s)
    bins = SpikesBin(BinSettings(width=0.005))
    bins.open(Context("bins", {"probe": spec}, Path()))
    packets = [packet for _, packet in play(recording) if not packet.output]
    live = [b for packet in packets for b in bins.process("probe", packet)]
    expected = bin_recording(recording, 0.005)
    assert len(packets) == 3236 + 3566
    assert np.array_equal([b.data for b in live], expected.counts)
    assert [b.source_ns for b in live] == expected.starts_ns.tolist()
    assert [b.segment for b in live] == expected.segment.tolist()
