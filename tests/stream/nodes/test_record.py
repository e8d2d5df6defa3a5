"""The `record` node writes a log while it runs and leaves a valid NWB file."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pynwb
import pytest
from nwbinspector import inspect_nwbfile

from stream.errors import ConfigError
from stream.node import Context, StreamSpec
from stream.nodes.record import Record, RecordSettings, log_path
from stream.packet import Packet
from stream.recording_log import read_log
from stream.recording_nwb import finish_log
from stream.spikes.nwb import read_recording
from stream.spikes.recording import bin_recording

UNITS = ("a", "b", "c")
WIDTH_NS = 5_000_000
MODEL = {"file": "m.onnx", "sha256": "ab" * 32, "name": "stndt", "version": "1"}
COUNTS = StreamSpec("counts", (3,), "float32", UNITS, "count", 0.005)
RATES = StreamSpec("rates", (3,), "float32", UNITS, "Hz", 0.005, {"model": MODEL})
DECODED = StreamSpec("behaviour", (2,), "float32", ("vx", "vy"), "cm/s", 0.005, {"model": MODEL})
VELOCITY = StreamSpec("behaviour", (2,), "float64", ("vx", "vy"), "cm/s")
SPIKES = StreamSpec("spikes", (None, 2), "int64", UNITS)


def opened(folder: Path, inputs: dict[str, StreamSpec], file: str = "session.nwb") -> Record:
    pipeline = folder / "p.yaml"
    pipeline.write_text("name: demo\n")
    node = Record(RecordSettings(file=folder / file))
    node.outputs(inputs)
    node.open(Context("saved", inputs, folder, pipeline="demo", pipeline_path=str(pipeline)))
    return node


def bin_packet(kind: str, data: list[float], k: int, *, seq: int | None = None, **more) -> Packet:
    return Packet(
        kind=kind, data=np.array(data, np.float32), t_ns=1_000 + k * WIDTH_NS,
        source_ns=k * WIDTH_NS, source_end_ns=(k + 1) * WIDTH_NS,
        seq=k if seq is None else seq, **more,
    )  # fmt: skip


def worst(path: Path) -> list[str]:
    return [
        f"{m.importance.name} {m.check_function_name} {m.message}"
        for m in inspect_nwbfile(nwbfile_path=str(path))
        if m.importance.name in ("CRITICAL", "BEST_PRACTICE_VIOLATION", "ERROR")
    ]


def test_a_recording_is_valid_nwb_that_reads_back_as_a_recording(tmp_path):
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (200, 3)).astype(np.float32)
    node = opened(
        tmp_path,
        {"bins": COUNTS, "rates": RATES, "rates.behaviour": DECODED, "probe.hand_vel": VELOCITY},
    )
    for k, row in enumerate(counts):
        node.process("bins", bin_packet("counts", row, k))
        node.process("rates", bin_packet("rates", row * 10, k))
        node.process("rates.behaviour", bin_packet("behaviour", [k, -k], k))
        ns = k * WIDTH_NS + int(rng.integers(0, 1000))
        velocity = np.array([k, 2.0 * k])
        node.process("probe.hand_vel", Packet("behaviour", velocity, ns, ns, ns, seq=k))
    assert log_path(node.file).exists()
    node.close()
    assert not log_path(node.file).exists()
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []
    assert pynwb.validate(path=str(node.file)) == []
    assert worst(node.file) == []

    recording = read_recording(node.file)
    assert recording.units == UNITS
    assert recording.width_s == 0.005
    binned = bin_recording(recording, 0.010)
    assert np.array_equal(binned.counts, counts.reshape(100, 2, 3).sum(axis=1))
    assert recording.behaviour["hand_vel"].columns == ("vx", "vy")
    assert recording.behaviour["hand_vel"].values[7].tolist() == [7.0, 14.0]
    assert set(recording.behaviour) == {"hand_vel", "rates", "rates_behaviour"}

    with pynwb.NWBHDF5IO(str(node.file), "r") as io:
        nwb = io.read()
        rates = nwb.processing["ecephys"]["rates"]
        assert rates.unit == "Hz"
        assert rates.rate == 200.0
        assert np.array_equal(rates.data[:], counts * 10)
        assert "ab" * 32 in nwb.notes
        about = json.loads(nwb.data_collection)
        assert about["streams"]["rates"]["meta"]["model"] == MODEL
        assert about["pipeline_text"] == "name: demo\n"
        assert "innervate" in about["versions"]
        packets = nwb.processing["run"]["packets_rates"]
        assert packets["seq"][:].tolist() == list(range(200))
        assert packets["source_end_ns"][3] == 4 * WIDTH_NS
        assert "drops" not in nwb.processing["run"].data_interfaces


def test_losses_are_in_the_table_of_drops_and_times_stay_true(tmp_path):
    node = opened(tmp_path, {"bins": COUNTS})
    for seq, k in enumerate([0, 1, 2, 5, 6]):
        node.process("bins", bin_packet("counts", [1, 0, 0], k, seq=seq, gap=2 if k == 5 else 0))
    node.process("bins", bin_packet("counts", [0, 0, 0], 9, seq=7))
    node.process("bins", bin_packet("counts", [0, 0], 10, seq=8))
    assert node.context.counters.dropped == {"wrong_shape": 1}
    node.close()
    with pynwb.NWBHDF5IO(str(node.file), "r") as io:
        nwb = io.read()
        drops = nwb.processing["run"]["drops"].to_dataframe()
        assert drops[["stream", "what", "packets"]].values.tolist() == [
            ["bins", "missing further up", 2],
            ["bins", "lost before the recorder", 2],
            ["bins", "refused: wrong_shape", 1],
        ]
        assert drops["time"].tolist() == [0.025, 0.045, 0.05]
        series = nwb.processing["ecephys"]["binned_spikes"]
        assert np.allclose(series.timestamps[:], [0, 0.005, 0.01, 0.025, 0.03, 0.045])
        segments = nwb.intervals["segments"].to_dataframe()
        bounds = segments[["start_time", "stop_time"]]
        assert np.allclose(bounds, [[0, 0.015], [0.025, 0.035], [0.045, 0.05]])
        streams = nwb.processing["run"]["streams"].to_dataframe().iloc[0]
        assert streams[["packets", "lost", "gaps", "refused"]].tolist() == [6, 2, 2, 1]
    assert worst(node.file) == []
    binned = bin_recording(read_recording(node.file), 0.005)
    assert binned.starts_ns.tolist() == [k * WIDTH_NS for k in (0, 1, 2, 5, 6, 9)]
    assert binned.segment.tolist() == [0, 0, 0, 1, 1, 2]


def test_spikes_of_several_packets_come_together_per_unit(tmp_path):
    node = opened(tmp_path, {"probe": SPIKES})
    spikes = [[[10, 0], [20, 2], [30, 0]], [], [[2_000_000_010, 2], [2_000_000_020, 1]]]
    for k, rows in enumerate(spikes):
        data = np.array(rows, np.int64).reshape(-1, 2)
        at = k * 1_000_000_000
        node.process("probe", Packet("spikes", data, at, at, at + 1_000_000_000, seq=k))
    bad = np.array([[3_000_000_000, 3]])
    node.process("probe", Packet("spikes", bad, 0, 3_000_000_000, 4_000_000_000, seq=3))
    node.close()
    recording = read_recording(node.file)
    assert recording.units == UNITS
    times_s = [t.tolist() for t in recording.spike_times_s]
    assert times_s == [[1e-8, 3e-8], [2.00000002], [2e-8, 2.00000001]]
    assert (recording.start_s, recording.stop_s) == (0.0, 3.0)
    with pynwb.NWBHDF5IO(str(node.file), "r") as io:
        assert io.read().processing["run"]["drops"]["what"][:].tolist() == ["refused: no_such_unit"]
    assert worst(node.file) == []


def test_a_probe_that_is_silent_for_long_or_for_ever_is_recorded(tmp_path):
    node = opened(
        tmp_path, {"probe": SPIKES, "dead": StreamSpec("spikes", (None, 2), "int64", ("d",))}
    )
    for k in range(5000):
        # More packets without a spike than are written at once.
        data = np.array([[k, 1]] if k == 4999 else [], np.int64).reshape(-1, 2)
        node.process("probe", Packet("spikes", data, 0, k, k + 1, seq=k))
    node.process("dead", Packet("spikes", data[:0], 0, 0, 1))
    node.close()
    times_s = [t.tolist() for t in read_recording(node.file).spike_times_s]
    assert times_s == [[], [4.999e-6], [], []]


def test_spikes_out_of_order_are_sorted_in_the_file(tmp_path):
    node = opened(tmp_path, {"probe": SPIKES})
    for k, time_ns in enumerate([3000, 1000, 2000]):
        node.process("probe", Packet("spikes", np.array([[time_ns, 1]]), 0, 0, 1, seq=k))
    node.close()
    assert read_recording(node.file).spike_times_s[1].tolist() == [1e-6, 2e-6, 3e-6]


def test_several_streams_of_a_kind_keep_their_names_apart(tmp_path):
    inputs = {"fast": COUNTS, "slow": COUNTS, "a-b": VELOCITY, "a_b": VELOCITY}
    node = opened(tmp_path, inputs)
    for stream, spec in inputs.items():
        node.process(stream, Packet(spec.kind, np.zeros(spec.shape, spec.dtype), 0, 0, 0))
    node.close()
    with pynwb.NWBHDF5IO(str(node.file), "r") as io:
        nwb = io.read()
        assert set(nwb.processing["ecephys"].data_interfaces) == {"fast", "slow"}
        assert set(nwb.processing["behavior"].data_interfaces) == {"a-b", "a_b"}


def test_no_two_streams_share_a_name_wherever_they_lie(tmp_path):
    inputs = {
        "p.hand": VELOCITY, "hand": StreamSpec("thing", (2,), "float32"), "a.b": SPIKES,
        "a_b": SPIKES, "one.vel": VELOCITY, "two.vel": VELOCITY,
    }  # fmt: skip
    node = opened(tmp_path, inputs)
    for stream, spec in inputs.items():
        shape = [size or 0 for size in spec.shape]
        node.process(stream, Packet(spec.kind, np.zeros(shape, spec.dtype), 0, 0, 0))
    node.close()
    with pynwb.NWBHDF5IO(str(node.file), "r") as io:
        nwb = io.read()
        assert set(nwb.processing["behavior"].data_interfaces) == {"hand", "one_vel", "two_vel"}
        assert set(nwb.acquisition) == {"hand_0"}
        tables = {n for n in nwb.processing["run"].data_interfaces if n.startswith("packets_")}
        names = ("hand", "hand_0", "a_b", "a_b_0", "one_vel", "two_vel")
        assert tables == {f"packets_{name}" for name in names}


def test_arrays_of_any_number_type_and_unknown_kinds_are_kept(tmp_path):
    inputs = {
        f"n.{dtype}": StreamSpec("thing", (2, 2), dtype)
        for dtype in ("uint8", "int16", "float16", "float32", "float64", "bool", "uint64")
    }
    node = opened(tmp_path, inputs)
    for stream, spec in inputs.items():
        for k in range(3):
            data = np.full((2, 2), k, spec.dtype)
            node.process(stream, Packet("thing", data, 0, k, k, seq=k))
    node.close()
    with pynwb.NWBHDF5IO(str(node.file), "r") as io:
        acquisition = io.read().acquisition
        assert all(
            acquisition[stream.replace(".", "_")].data[1].tolist() == [[1, 1], [1, 1]]
            for stream in inputs
        )


def test_a_run_in_which_nothing_came_still_leaves_a_valid_file(tmp_path):
    node = opened(tmp_path, {"bins": COUNTS})
    node.close()
    assert pynwb.validate(path=str(node.file)) == []
    assert worst(node.file) == []


def test_an_existing_file_or_log_is_never_overwritten(tmp_path):
    node = Record(RecordSettings(file=tmp_path / "s.nwb"))
    (tmp_path / "s.nwb").write_text("precious")
    with pytest.raises(ConfigError, match="exists and is not overwritten"):
        node.outputs({"bins": COUNTS})
    (tmp_path / "s.nwb").rename(tmp_path / "s.nwb.log")
    with pytest.raises(ConfigError, match="innervate recover"):
        node.outputs({"bins": COUNTS})
    assert (tmp_path / "s.nwb.log").read_text() == "precious"


@pytest.mark.parametrize(
    ("file", "spec", "says"),
    [
        ("s.h5", COUNTS, "must end in '.nwb'"),
        ("no/s.nwb", COUNTS, "is not there"),
        ("s.nwb", StreamSpec("thing", (3, None), "float32"), "only the first may vary"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_the_start(tmp_path, file, spec, says):
    with pytest.raises(ConfigError, match=says):
        Record(RecordSettings(file=tmp_path / file)).outputs({"x": spec})


def test_without_a_file_the_recording_is_named_after_pipeline_node_and_time(tmp_path):
    node = Record(RecordSettings())
    node.open(Context("saved", {"bins": COUNTS}, tmp_path, pipeline="a demo"))
    node.close()
    assert node.file.parent == tmp_path
    assert node.file.name.startswith("a_demo-saved-2")
    assert node.file.exists()


WRITER = """
import sys
from pathlib import Path
import numpy as np
from stream.node import Context, StreamSpec
from stream.nodes.record import Record, RecordSettings
from stream.packet import Packet

folder = Path(sys.argv[1])
specs = {
    "bins": StreamSpec("counts", (3,), "float32", ("a", "b", "c"), "count", 0.005),
    "rates": StreamSpec("rates", (3,), "float32", ("a", "b", "c"), "Hz", 0.005),
}
node = Record(RecordSettings(file=folder / "session.nwb"))
node.open(Context("saved", specs, folder))
for k in range(10**9):
    for stream, spec in specs.items():
        data = np.array([k % 3, 1, 0], np.float32)
        at = k * 5_000_000
        node.process(stream, Packet(spec.kind, data, at, at, at + 5_000_000, seq=k))
    sys.stdout.buffer.write(b"%d\\n" % k)
    sys.stdout.buffer.flush()
"""


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_recorder_loses_nothing_that_it_acknowledged(tmp_path, seed):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in range(random.Random(seed).randrange(1, 3000)):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split(b"\n")
    log = tmp_path / "session.nwb.log"
    # The last line may have been cut: what is before it was written whole.
    acknowledged = int(rest[-2]) if len(rest) > 1 else 0
    reader = read_log(log)
    kept = [int(item.packet.seq) for item in reader if item.stream == "rates"]
    assert kept[: acknowledged + 1] == list(range(acknowledged + 1))
    assert reader.damaged == 0
    done = finish_log(log, tmp_path / "session.nwb")
    assert done.cut_off
    assert not log.exists()
    assert done.packets["rates"] == len(kept)
    assert pynwb.validate(path=str(done.file)) == []
    recording = read_recording(done.file)
    assert len(recording.counts) >= len(kept)


def test_a_recording_says_which_run_it_is_of_and_on_what_terms_it_may_be_used(tmp_path):
    node = Record(RecordSettings(file=tmp_path / "x.nwb", licence="CC-BY-4.0, ask us"))
    node.open(Context("saved", {"bins": COUNTS}, tmp_path, pipeline="demo"))
    node.process("bins", bin_packet("counts", [1, 0, 2], 0))
    node.close()
    recording = read_recording(tmp_path / "x.nwb")
    assert recording.licence == "CC-BY-4.0, ask us"
    assert recording.name.startswith("demo-20")
