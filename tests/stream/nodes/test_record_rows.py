"""The `record` node keeps streams whose packets vary in length: channels, texts, notes."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pynwb
import pytest
from nwbinspector import inspect_nwbfile
from pynwb.ecephys import ElectricalSeries

from stream.music.notes import notes_spec
from stream.node import Context, StreamSpec
from stream.nodes.record import Record, RecordSettings
from stream.packet import Packet
from stream.recording_log_writer import LogWriter
from stream.recording_nwb import finish_log, log_to_nwb
from stream.spikes.samples_replay import SamplesReplay, SamplesReplaySettings

RATE = 30_000.0
MS = 1_000_000


def samples(channels: tuple[str, ...], unit: str = "uV", **more) -> StreamSpec:
    given = {"shape": (None, len(channels)), "meta": {"rate_hz": RATE}, **more}
    return StreamSpec("samples", given["shape"], "float32", channels, unit, meta=given["meta"])


RAW = samples(("a", "b", "c"))
MARKERS = StreamSpec("markers", (None,), "uint8")
DATA = np.random.default_rng(0).normal(0, 20, (2000, 3)).astype(np.float32)
SIZES = (700, 1, 0, 299, 1000)
TEXTS = (b"go", "Übung 1\tleft".encode(), b"a\xffb", b"a\0b", b"")
NOTES = ([[144, 60, 90], [144, 64, 90]], [], [[128, 60, 0]])
TRIGGERS = {
    f"{node}{output}": StreamSpec(kind, (1,), "uint8", ("rule",))
    for node in ("A", "B")
    for output, kind in (("", "trigger"), (".state", "levels"))
}


def at_ns(sample: int) -> int:
    return 5_000_000_000 + round(sample * 1e9 / RATE)


def raw(data: np.ndarray, first: int, seq: int, gap: int = 0) -> Packet:
    """Make a packet of samples that begins with the sample of this number."""
    return Packet(
        "samples", data, 1, at_ns(first), at_ns(first + len(data)), seq=seq, gap=gap
    )  # fmt: skip


def pieces(skipped: int = 0) -> list[Packet]:
    """Cut DATA into packets; so many samples are missing before the fourth."""
    starts = np.cumsum((0, *SIZES))
    return [
        raw(DATA[a:b], a + (skipped if k > 2 else 0), k, skipped if k == 3 else 0)
        for k, (a, b) in enumerate(pairwise(starts))
    ]


def marker(text: bytes, ns: int, seq: int) -> Packet:
    return Packet("markers", np.frombuffer(text, np.uint8), ns, ns, ns, seq=seq)


def opened(folder: Path, inputs: dict[str, StreamSpec]) -> Record:
    node = Record(RecordSettings(file=folder / "session.nwb"))
    node.outputs(inputs)
    node.open(Context("saved", inputs, folder, pipeline="demo"))
    return node


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    """Record one packet after the other of many streams, and return the file."""
    inputs = {
        "probe.samples": RAW,
        "lossy": samples(("d", "e", "f")),
        "mute": notes_spec(0.02),
        "untold": samples(("x",), "V", meta={}),
        "fixed": samples(("g", "h"), "mV", shape=(2, 2), meta={"rate_hz": 1000}),
        "force": samples(("grip",), "N", meta={"rate_hz": 1000}),
        "events": MARKERS,
        "keys": notes_spec(None),
        **TRIGGERS,
    }
    node = opened(tmp_path_factory.mktemp("rows"), inputs)
    for packet, lossy in zip(pieces(), pieces(skipped=50), strict=True):
        node.process("probe.samples", packet)
        node.process("lossy", lossy)
    for k in range(3):
        two = DATA[2 * k : 2 * k + 2]
        at = (1, 2 * k * MS, 2 * (k + 1) * MS)
        node.process("fixed", Packet("samples", two[:, :2], *at, seq=k))
        node.process("force", Packet("samples", two[:, :1], *at, seq=k))
        node.process(
            "untold", Packet("samples", two[:, :1], 1, k * k * MS, (k * k + 1) * MS, seq=k)
        )
        notes = np.array(NOTES[k], np.uint8).reshape(-1, 3)
        node.process("keys", Packet("notes", notes, *at, seq=k))
        node.process("mute", Packet("notes", notes[:0], *at, seq=k))
        for stream, spec in TRIGGERS.items():
            node.process(stream, Packet(spec.kind, np.ones(1, np.uint8), *at, seq=k))
    for k, text in enumerate(TEXTS):
        node.process("events", marker(text, k * k * MS, k))
    assert node.context.counters.dropped == {}
    node.close()
    return node.file


@pytest.fixture(scope="module")
def nwb(session):
    with pynwb.NWBHDF5IO(str(session), "r") as io:
        yield io.read()


def test_the_file_is_valid_and_the_inspector_finds_no_fault_with_it(session):
    assert pynwb.validate(path=str(session)) == []
    remarks = [
        (m.object_name, m.check_function_name)
        for m in inspect_nwbfile(nwbfile_path=str(session))
        if m.importance.name in ("CRITICAL", "BEST_PRACTICE_VIOLATION", "ERROR")
    ]
    # Nothing was played there.
    about_nothing = {"check_data_orientation", "check_time_series_data_is_not_empty"}
    assert set(remarks) <= {("mute", check) for check in about_nothing}


def test_samples_become_one_series_with_a_row_a_sample_at_their_rate(nwb):
    series = nwb.acquisition["probe_samples"]
    assert isinstance(series, ElectricalSeries)
    assert np.array_equal(series.data[:], DATA)
    assert (series.rate, series.starting_time, series.timestamps) == (RATE, 5.0, None)
    assert (series.unit, series.conversion) == ("volts", 1e-6)
    packets = nwb.processing["run"]["packets_probe_samples"]
    assert packets["rows"][:].tolist() == list(SIZES)
    segments = nwb.intervals["segments"].to_dataframe()
    assert segments[["start_time", "stop_time"]].values.tolist() == [[5.0, at_ns(2000) / 1e9]]


def test_a_hole_between_samples_stands_in_their_times(nwb):
    series = nwb.acquisition["lossy"]
    numbers = np.concatenate([np.arange(701), np.arange(751, 2050)])
    assert series.rate is None
    assert np.abs(series.timestamps[:] - (5 + numbers / RATE)).max() < 2e-9
    assert np.array_equal(series.data[:], DATA)
    drops = nwb.processing["run"]["drops"].to_dataframe()
    assert drops[["stream", "what", "packets"]].values.tolist() == [
        ["lossy", "missing further up", 50]
    ]


def test_samples_whose_rate_is_not_told_are_spread_over_what_their_packet_covers(nwb):
    times_ms = nwb.acquisition["untold"].timestamps[:] * 1000
    assert np.allclose(times_ms, [0, 0.5, 1, 1.5, 4, 4.5])


def test_each_stream_of_samples_has_its_own_electrodes_and_other_units_have_none(nwb):
    electrodes = {
        name: series.electrodes.table["channel_name"][series.electrodes.data[:]].tolist()
        for name, series in nwb.acquisition.items()
        if isinstance(series, ElectricalSeries)
    }
    assert electrodes == {
        "probe_samples": ["a", "b", "c"], "lossy": ["d", "e", "f"], "untold": ["x"],
        "fixed": ["g", "h"],
    }  # fmt: skip
    assert nwb.acquisition["fixed"].data.shape == (6, 2)
    assert (nwb.acquisition["fixed"].rate, nwb.acquisition["fixed"].conversion) == (1000, 1e-3)
    force = nwb.acquisition["force"]
    assert (type(force), force.unit, force.comments) == (pynwb.TimeSeries, "N", "columns=[grip]")


def test_markers_become_events_at_their_times_with_their_texts(nwb):
    table = nwb.events["events"]
    assert np.allclose(table["timestamp"][:] * 1000, [0, 1, 4, 9, 16])
    # What is no text stays recognisable.
    assert list(table["annotation"][:]) == ["go", "Übung 1\tleft", "a\\xffb", "a\\x00b", ""]
    assert table.id[:].tolist() == [0, 1, 2, 3, 4]
    assert nwb.processing["run"]["packets_events"]["seq"][:].tolist() == [0, 1, 2, 3, 4]


def test_notes_have_the_time_of_their_packet_and_packets_without_any_are_told_too(nwb):
    series = nwb.acquisition["keys"]
    assert series.data[:].tolist() == [row for packet in NOTES for row in packet]
    assert np.allclose(series.timestamps[:] * 1000, [0, 0, 4])
    assert nwb.processing["run"]["packets_keys"]["rows"][:].tolist() == [2, 0, 1]
    assert nwb.acquisition["mute"].data.shape == (0, 3)


def test_two_triggers_have_plain_names(nwb):
    assert {"A", "A_state", "B", "B_state"} <= set(nwb.acquisition)


def test_recorded_samples_are_replayed_as_they_came(session, tmp_path):
    node = SamplesReplay(SamplesReplaySettings(file=session, series="probe_samples", speed="max"))
    spec = node.outputs({})[""]
    assert (spec.names, spec.unit, spec.meta["rate_hz"]) == (("a", "b", "c"), "uV", RATE)
    node.open(Context("again", {}, tmp_path))
    node.start(0)
    packets = []
    while not node.finished:
        packets.extend(node.tick())
    node.close()
    assert np.allclose(np.concatenate([p.data for p in packets]), DATA, rtol=1e-6)
    assert packets[0].source_ns == at_ns(0)


def test_of_a_log_whose_description_is_damaged_samples_and_markers_are_kept_too(tmp_path):
    log = tmp_path / "x.nwb.log"
    writer = LogWriter(log, {"raw": RAW, "events": MARKERS}, {})
    described = writer.bytes
    for packet in pieces():
        writer.write("raw", packet, 2)
    writer.write("events", marker(b"go", 0, 0), 2)
    writer.close({})
    content = bytearray(log.read_bytes())
    content[described - 3] ^= 0xFF
    log.write_bytes(content)
    done = finish_log(log, tmp_path / "x.nwb")
    assert done.packets == {"raw": len(SIZES), "events": 1}
    with pynwb.NWBHDF5IO(str(done.file), "r") as io:
        nwb = io.read()
        assert np.array_equal(nwb.acquisition["raw"].data[:], DATA)
        times_s = nwb.acquisition["raw"].timestamps[:]
        assert np.abs(times_s - (5 + np.arange(2000) / RATE)).max() < 2e-9
        assert list(nwb.events["events"]["annotation"][:]) == ["go"]


def test_memory_does_not_grow_with_the_length_of_what_was_recorded(tmp_path):
    log = tmp_path / "x.nwb.log"
    writer = LogWriter(log, {"raw": RAW, "events": MARKERS}, {})
    block = np.zeros((30_000, 3), np.float32)
    for k in range(200):
        # A hole behind each, so that every sample has a time of its own.
        writer.write("raw", raw(block, k * 30_001, k), 2)
        writer.write("events", marker(b"x" * 1000, k, k), 2)
    writer.close({})
    tracemalloc.start()
    try:
        done = log_to_nwb(log, tmp_path / "x.nwb")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.packets == {"raw": 200, "events": 200}
    assert peak < log.stat().st_size / 2
    print("PEAK", peak, log.stat().st_size)
