"""Raw recordings of three formats, sent as packets."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from stream.errors import ConfigError, RecordingError
from stream.node import Context
from stream.spikes.samples_replay import SamplesReplay, SamplesReplaySettings

BITS = np.random.default_rng(0).integers(-500, 500, (1000, 3)).astype("<i2")
FLAT = {"rate": 10_000.0, "channels": 3, "uv_per_bit": 0.5}


def play(path: Path, **more):
    node = SamplesReplay(SamplesReplaySettings(file=path, **more))
    spec = node.outputs({})[""]
    node.open(Context("raw", {}, path.parent))
    node.start(0)
    packets = []
    while not node.finished:
        packets.extend(node.tick())
    node.close()
    return spec, packets


JITTERED = 5 + np.arange(1000) / 10_000 + np.random.default_rng(1).uniform(-2e-5, 2e-5, 1000)


def _holed(at: int, by: float) -> np.ndarray:
    times = np.arange(1000) / 10_000
    times[at:] += by
    return times


TIMES = {
    "steady": JITTERED, "holed": _holed(500, 1e-3), "spoilt": _holed(999, np.nan),
    "back": _holed(0, 0)[::-1],
    "inside": np.where(np.arange(1000) == 500, np.nan, np.arange(1000) / 10_000),
}  # fmt: skip


@pytest.fixture(scope="module")
def nwb(tmp_path_factory) -> Path:
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.ecephys import ElectricalSeries

    file = NWBFile("raw", "raw", datetime(2026, 1, 1, tzinfo=UTC))
    group = file.create_electrode_group(
        "g", description="d", location="l", device=file.create_device("d")
    )
    file.add_electrode_column("channel_name", "as on the headstage")
    for i in range(4):
        file.add_electrode(group=group, location="l", channel_name=f"AP{i}")
    for name in ("raw", "other"):
        file.add_acquisition(
            ElectricalSeries(
                name=name, data=BITS, rate=10_000.0, starting_time=2.0,
                electrodes=file.create_electrode_table_region([3, 1, 0], "r"),
                conversion=1e-6, channel_conversion=[0.5, 0.5, 0.25], offset=1e-5,
            )
        )  # fmt: skip
    for name, times in TIMES.items():
        file.add_acquisition(
            ElectricalSeries(
                name=name, data=BITS, timestamps=times, conversion=1e-6,
                electrodes=file.create_electrode_table_region([3, 1, 0], "r"),
            )
        )  # fmt: skip
    path = tmp_path_factory.mktemp("nwb") / "raw.nwb"
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def test_flat_int16_comes_in_microvolts_with_its_clock(tmp_path: Path):
    path = tmp_path / "raw.dat"
    BITS.tofile(path)
    spec, packets = play(path, **FLAT)
    assert (spec.kind, spec.shape, spec.dtype, spec.unit) == ("samples", (None, 3), "float32", "uV")
    assert spec.names == ("ch0", "ch1", "ch2")
    assert spec.period_s == pytest.approx(0.001), "of a packet"
    assert spec.meta == {"rate_hz": 10_000.0, "range": 0.5 * 32767}
    assert len(packets) == 100
    assert all(p.data.dtype == np.float32 and p.data.shape == (10, 3) for p in packets)
    np.testing.assert_array_equal(np.concatenate([p.data for p in packets]), BITS * 0.5)
    assert [(p.source_ns, p.source_end_ns) for p in packets[:2]] == [(0, 10**6), (10**6, 2 * 10**6)]
    assert [p.t_ns for p in packets] == [p.source_end_ns for p in packets]


def test_arrays_of_floats_are_taken_as_they_are(tmp_path: Path):
    path = tmp_path / "raw.npy"
    np.save(path, BITS.astype(float) / 7)
    spec, packets = play(path, rate=10_000.0, chunk=0.0333)
    assert "range" not in spec.meta
    assert [len(p.data) for p in packets] == [333, 333, 333, 1]
    np.testing.assert_allclose(np.concatenate([p.data for p in packets]), BITS / 7, rtol=1e-6)


def test_nwb_brings_names_rate_scale_and_clock(nwb: Path):
    spec, packets = play(nwb, series="raw")
    assert spec.names == ("AP3", "AP1", "AP0")
    assert spec.meta["rate_hz"] == 10_000
    assert spec.unit == "uV"
    assert packets[0].source_ns == 2 * 10**9
    np.testing.assert_allclose(
        np.concatenate([p.data for p in packets]), BITS * [0.5, 0.5, 0.25] + 10, rtol=1e-5
    )


def test_timestamps_of_a_steady_rate_are_as_good_as_a_rate(nwb: Path):
    spec, packets = play(nwb, series="steady")
    assert spec.meta["rate_hz"] == pytest.approx(10_000, rel=1e-3)
    assert packets[0].source_ns == pytest.approx(5e9, abs=1e5)
    assert sum(len(p.data) for p in packets) == 1000


@pytest.mark.parametrize(
    ("series", "words"),
    [
        ("holed", r"'holed' in raw.nwb has no steady rate: at 9900.* Hz, sample \d+ would be at"),
        ("inside", r"sample 500 would be at 0.05\d+ s, its timestamp says nan s"),
        ("spoilt", "from 0 to nan s, which tell no time"),
        ("back", "which tell no time; they must rise"),
    ],
)
def test_timestamps_without_a_steady_rate_are_refused_with_the_place(nwb, series, words):
    with pytest.raises(RecordingError, match=words):
        SamplesReplay(SamplesReplaySettings(file=nwb, series=series)).outputs({})


def test_every_lap_is_a_new_segment_on_a_clock_that_goes_on(tmp_path: Path):
    path = tmp_path / "raw.dat"
    BITS.tofile(path)
    _, packets = play(path, **FLAT, loop=2, chunk=0.05)
    assert [p.segment for p in packets] == [0, 0, 1, 1]
    assert [p.source_ns // 10**6 for p in packets] == [0, 50, 100, 150]
    np.testing.assert_array_equal(packets[2].data, packets[0].data)


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("raw.dat", {"channels": 3, "uv_per_bit": 1.0}, r"rate: raw.dat does not say"),
        ("raw.dat", {"rate": 1e4, "uv_per_bit": 1.0}, r"channels: raw.dat does not say"),
        ("raw.dat", {"rate": 1e4, "channels": 3}, r"uv_per_bit: raw.dat holds int16"),
        ("raw.dat", {**FLAT, "series": "x"}, r"series: leave it out for raw.dat"),
        ("raw.npy", {"rate": 1e4, "channels": 3}, r"channels: leave it out for raw.npy"),
        ("raw.nwb", {"rate": 1e4}, r"rate: leave it out for raw.nwb"),
        (
            "raw.nwb",
            {},
            r"series: of ElectricalSeries .* raw.nwb has back, holed, inside, other, raw,",
        ),
        ("raw.nwb", {"series": "x"}, r"series: of ElectricalSeries"),
    ],
)
def test_settings_that_do_not_fit_the_file_are_refused(tmp_path, nwb, name, more, words):
    BITS.tofile(tmp_path / "raw.dat")
    np.save(tmp_path / "raw.npy", BITS)
    path = nwb if name.endswith("nwb") else tmp_path / name
    with pytest.raises(ConfigError, match=words):
        SamplesReplay(SamplesReplaySettings(file=path, **more)).outputs({})


@pytest.mark.parametrize(
    ("name", "write", "more"),
    [
        ("raw.dat", lambda p: p.write_bytes(b"12345"), FLAT),
        ("raw.npy", lambda p: p.write_bytes(b"12345"), {"rate": 1e4}),
        ("raw.npy", lambda p: np.save(p, BITS.ravel()), {"rate": 1e4}),
        ("raw.npy", lambda p: np.save(p, BITS.astype(np.int64)), {"rate": 1e4}),
        ("raw.npy", lambda p: np.save(p, np.array([[{}]]), allow_pickle=True), {"rate": 1e4}),
        ("raw.nwb", lambda p: p.write_bytes(b"12345"), {}),
        ("none.dat", lambda p: None, FLAT),
    ],
)
def test_files_that_are_no_recording_are_refused_by_name(tmp_path: Path, name, write, more):
    path = tmp_path / name
    write(path)
    with pytest.raises(RecordingError, match=name):
        SamplesReplay(SamplesReplaySettings(file=path, **more)).outputs({})
