"""The node: what it announces, how it counts time, and what gaps and bad packets do to it."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from innervate_command import innervate

from benchmarks._extracellular import waveform
from stream.errors import ConfigError
from stream.node import Context, StreamSpec
from stream.packet import Packet, encode
from stream.spikes.bin import BinSettings, SpikesBin
from stream.spikes.detect import DetectSettings, SpikesDetect

RATE_HZ = 30_000
MS = 1_000_000
NAMES = tuple(f"a{i}" for i in range(4))
SPEC = StreamSpec(
    "samples", (None, 4), "float32", NAMES, "uV", 1 / RATE_HZ, {"rate_hz": float(RATE_HZ)}
)


def detect(spec: StreamSpec = SPEC, **more) -> SpikesDetect:
    more = {"threshold_uv": -50.0, **more}
    node = SpikesDetect(DetectSettings(**more))
    node.outputs({"raw": spec})
    node.open(Context("spikes", {"raw": spec}, Path()))
    return node


def raw(at, length: int, channel: int = 1, channels: int = 4):
    samples = np.random.default_rng(0).standard_normal((length, channels)) * 5
    for trough in at:
        samples[trough - 20 : trough + 44, channel] += 100 * waveform(0.15)
    return samples.astype(np.float32)


def packets(samples, rows: int = 30, start_ns: int = 0, segment: int = 0, seq: int = 0):
    made = []
    for a in range(0, len(samples), rows):
        piece = samples[a : a + rows]
        span = [start_ns + round(i / RATE_HZ * 1e9) for i in (a, a + len(piece))]
        made.append(
            Packet("samples", piece, span[1] + 7, *span, segment=segment, seq=seq + len(made))
        )
    return made


def feed(node: SpikesDetect, given):
    return [out for packet in given for out in node.process("raw", packet)]


def events(out):
    return [(t / MS, int(u)) for p in out for t, u in p.data.tolist()]


def times(out):
    return [t for t, _ in events(out)]


def test_units_are_the_channels_that_were_chosen():
    node = SpikesDetect(DetectSettings(channels=("a3", "a1")))
    assert node.outputs({"raw": SPEC})[""] == StreamSpec("spikes", (None, 2), "int64", ("a3", "a1"))
    out = feed(detect(channels=("a3", "a1")), packets(raw([900], 1500, channel=1)))
    assert events(out) == [(pytest.approx(30, abs=0.1), 1)]


@pytest.mark.parametrize(
    ("settings", "spec", "words"),
    [
        ({"channels": ("a9",)}, {}, r"channels: there is no 'a9' in 'raw'; did you mean 'a"),
        ({"low": 400.0, "high": 300.0}, {}, r"400 Hz to 300 Hz is no band of 'raw'"),
        ({"high": 16_000.0}, {}, r"300 Hz to 16 kHz is no band of 'raw', which has 30 kHz"),
        ({"threshold_uv": -40.0}, {"unit": "V"}, r"threshold_uv: .* are in V, not in uV"),
        ({"artefact_uv": 900.0}, {"unit": ""}, r"artefact_uv: .* does not name, not in uV"),
        ({}, {"names": ()}, r"'raw' does not name its channels"),
        ({}, {"meta": {}}, r"'raw' does not say how many samples"),
        ({"reference": "mean", "channels": ("a0",)}, {}, r"reference: of one channel nothing"),
    ],
)
def test_what_cannot_work_is_refused_before_the_start(settings, spec, words):
    made = StreamSpec(**{**{f: getattr(SPEC, f) for f in SPEC.__dataclass_fields__}, **spec})
    with pytest.raises(ConfigError, match=words):
        SpikesDetect(DetectSettings(**settings)).outputs({"raw": made})


@pytest.mark.parametrize("threshold", [0, float("nan"), float("inf")])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(ValueError, match=r"below 0 \(troughs\) or above 0 \(peaks\)"):
        DetectSettings(threshold=threshold)


def test_the_band_ends_below_half_of_a_low_rate():
    spec = StreamSpec("samples", (None, 4), "float32", NAMES, "uV", 1e-4, {"rate_hz": 1e4})
    assert detect(spec).context.counters.notes["band_hz"] == [300, 4500]


def test_packets_cover_the_clock_without_holes_and_bins_take_every_spike():
    at = list(range(700, 28_000, 331))
    node = detect()
    out = feed(node, packets(raw(at, 30_000)))
    for one, other in pairwise(out):
        assert one.source_end_ns == other.source_ns
    for packet in out:
        encode("spikes", packet, 0)
        assert packet.data.dtype == np.int64
        spike_ns = packet.data[:, 0]
        assert (spike_ns >= packet.source_ns).all()
        assert (spike_ns < packet.source_end_ns).all()
        assert (np.diff(spike_ns) >= 0).all()
        assert packet.t_ns - 7 - packet.source_end_ns <= 2 * MS
    np.testing.assert_allclose(times(out), np.array(at) / 30, atol=0.07)
    spec = node.outputs({"raw": SPEC})[""]
    bins = SpikesBin(BinSettings(width=0.005))
    bins.open(Context("bins", {"spikes": spec}, Path()))
    counted = sum(b.data.sum() for p in out for b in bins.process("spikes", p))
    assert counted + bins._counts.sum() == len(at)
    assert bins.context.counters.dropped == {}


def test_times_are_those_of_the_packets_even_where_their_clock_drifts():
    drifting = packets(raw([3000, 27_000], 30_000), start_ns=5_000 * MS)
    for packet in drifting:
        packet.source_ns = 5_000 * MS + round((packet.source_ns - 5_000 * MS) * 1.001)
        packet.source_end_ns = 5_000 * MS + round((packet.source_end_ns - 5_000 * MS) * 1.001)
    out = feed(detect(), drifting)
    np.testing.assert_allclose(times(out), [5100.1, 5900.9], atol=0.07)


@pytest.mark.parametrize("rows", [30, 690])
def test_jitter_of_the_clock_breaks_no_promise(rows):
    at = list(range(600, 28_000, 150))
    jittery = packets(raw(at, 30_000), rows=rows)
    random = np.random.default_rng(0)
    most_ns = 400_000 * rows // 30
    for packet in jittery:
        away = int(random.integers(-most_ns, most_ns)) // 2
        packet.source_ns += away
        packet.source_end_ns += away
    node = detect()
    out = feed(node, jittery)
    assert len(events(out)) == len(at)
    for one, other in pairwise(out):
        assert one.source_end_ns == other.source_ns
    for packet in out:
        assert packet.source_end_ns >= packet.source_ns
        assert (packet.data[:, 0] >= packet.source_ns).all()
        assert (np.diff(packet.data[:, 0]) >= 0).all()


def test_a_gap_restarts_the_filter_and_is_passed_on():
    early, late = raw([600], 900), raw([600], 900) + np.float32(3000)
    node = detect()
    first = feed(node, packets(early))
    second = feed(node, packets(late, start_ns=100 * MS, seq=31))
    assert times(first) == [pytest.approx(20, abs=0.1)]
    assert times(second) == [pytest.approx(120, abs=0.1)], "and no event where the level jumps"
    assert [p.gap for p in first] == [0] * len(first)
    assert second[0].gap > 1, "the packets in which the filter settled"
    assert second[0].source_ns > 105 * MS
    assert second[1].gap == 0
    assert {p.segment for p in first + second} == {0}
    node.finish()
    notes = node.context.counters.notes
    assert notes["breaks"] == 1
    assert 0.01 < notes["unsearched_s"] < 0.03
    assert notes["events"] == 2


@pytest.mark.parametrize("how", ["gap", "seq", "clock"])
@pytest.mark.parametrize("rows", [30, 900])
def test_a_gap_may_show_in_the_header_or_in_the_clock_alone(how, rows):
    node = detect()
    feed(node, packets(raw([], 900), rows=rows))
    after = packets(raw([600], 900) - np.float32(300), rows, 30 * MS, seq=900 // rows)
    if how == "gap":
        after[0].gap = 1
    for packet in after:
        packet.seq += how == "seq"
        packet.source_ns += 20 * MS * (how == "clock")
        packet.source_end_ns += 20 * MS * (how == "clock")
    out = feed(node, after)
    assert len(events(out)) == 1, "no event where the level jumps"
    assert times(out) == [pytest.approx(70 if how == "clock" else 50, abs=0.1)]
    assert out[0].gap > 0


def test_a_clock_that_jumps_back_begins_a_segment_and_jitter_does_not():
    node = detect()
    feed(node, packets(raw([], 900), start_ns=500 * MS))
    jitter = packets(raw([], 900), start_ns=530 * MS - 20_000, seq=30)
    assert {p.segment for p in feed(node, jitter)} == {0}
    assert node.context.counters.notes.get("breaks", 0) == 0
    back = feed(node, packets(raw([600], 900), start_ns=0, seq=60))
    assert {p.segment for p in back} == {1}
    assert times(back) == [pytest.approx(20, abs=0.1)]
    new = feed(node, packets(raw([600], 900), start_ns=900 * MS, segment=1, seq=90))
    assert {p.segment for p in new} == {2}


@pytest.mark.parametrize(
    ("reason", "spoil"),
    [
        ("shape", lambda p: setattr(p, "data", p.data[:, :3])),
        ("shape", lambda p: setattr(p, "data", p.data.astype(np.int16))),
        ("kind", lambda p: setattr(p, "kind", "rates")),
        ("span", lambda p: setattr(p, "source_end_ns", p.source_ns - 5)),
        ("span", lambda p: setattr(p, "source_end_ns", p.source_ns + 3600 * 10**9)),
    ],
)
def test_packets_that_are_no_samples_of_these_channels_are_refused_and_leave_a_gap(reason, spoil):
    node = detect()
    given = packets(raw([600, 1500], 2400))
    spoil(given[30])
    out = feed(node, given)
    assert node.context.counters.dropped == {reason: 1}
    assert times(out) == [pytest.approx(20, abs=0.1), pytest.approx(50, abs=0.1)]
    assert sum(p.gap for p in out) > 1


def test_what_was_wrong_with_channels_is_counted_and_noted_by_name():
    samples = raw([2000], 6000)
    samples[100:110, 0] = np.nan
    samples[:, 2] = 4
    samples[3000:3005] += 9000
    node = detect(SPEC, threshold_uv=None, threshold=-9.0)
    for start in range(0, 12):
        feed(node, packets(samples, start_ns=start * 200 * MS, seq=200 * start))
    node.finish()
    counters = node.context.counters
    assert counters.dropped["not_finite"] == 120
    assert counters.dropped["artefact"] >= 3
    assert list(counters.notes["flat_s"]) == ["a2"]
    assert counters.notes["not_in_reference"] == ["a2"]
    low, middle, high = counters.notes["noise_p5_p50_p95"]
    assert 2 < middle < 4
    assert low <= middle <= high
    assert counters.notes["rate_hz"] == pytest.approx(30_000, rel=1e-4)


@pytest.mark.parametrize("rows", [1, 30])
def test_packets_without_a_span_are_placed_by_the_rate(rows):
    given = packets(raw([605], 900), rows=rows)
    for packet in given:
        packet.source_end_ns = packet.source_ns
    assert times(feed(detect(), given)) == [pytest.approx(20.17, abs=0.1)]


def test_a_raw_file_becomes_bins_in_a_run(tmp_path: Path):
    at = list(range(63_000, 88_000, 211))
    (raw(at, 90_000, channels=4) / 0.2).round().astype("<i2").tofile(tmp_path / "raw.dat")
    nodes = {
        "raw": {
            "use": "stream.spikes.samples_replay:SamplesReplay", "file": "raw.dat",
            "rate": "30 kHz", "channels": 4, "uv_per_bit": 0.2, "speed": "max", "chunk": "23 ms",
        },
        "spikes": {"use": "stream.spikes.detect:SpikesDetect", "from": "raw", "threshold": -8},
        "bins": {"use": "spikes.bin", "from": "spikes", "width": "5 ms"},
        "view": {"use": "console", "from": {"stream": "bins", "deliver": "lossless"}},
    }  # fmt: skip
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"name": "raw", "nodes": nodes}))
    done = innervate("run", "p.yaml", "--report", "r.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "r.json").read_text())["nodes"]
    assert found["spikes"]["notes"]["events"] == len(at)
    assert found["bins"]["dropped"] == {}
    assert found["bins"]["packets_out"] > 195
