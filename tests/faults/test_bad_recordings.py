"""Whatever is wrong with what a user brings: one clear sentence or a counted refusal."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
from pathlib import Path

import h5py
import numpy as np
import psutil
import pynwb
import pytest
import zmq

from stream.spikes.nwb import read_recording, write_recording
from stream.spikes.recording import Recording

UNITS = ("a", "b", "c")


def replay(file: Path, **more) -> dict:
    return {"use": "spikes.replay", "file": str(file), **more}


def binned(source: str = "probe", width: str = "5 ms", **more) -> dict:
    return {"use": "spikes.bin", "from": source, "width": width, **more}


def recorded(source: list[str], file: Path) -> dict:
    return {"use": "record", "from": source, "file": str(file)}


@pytest.fixture
def spikes_nwb(tmp_path):
    """A sound recording of spike times, and a way to damage a copy of it."""
    path = tmp_path / "session.nwb"
    rng = np.random.default_rng(0)
    times_s = tuple(np.sort(rng.random(50)) for _ in UNITS)
    recording = Recording("s", UNITS, 0.0, 1.0, np.zeros(1), spike_times_s=times_s)
    write_recording(recording, path)
    return path


@pytest.fixture
def check_model(innervate, write_pipeline, spikes_nwb):
    """Check a pipeline from that recording through bins into a model file."""

    def check(file: Path, width: str = "5 ms"):
        rates = {"use": "model", "from": "bins", "file": str(file)}
        pipeline = write_pipeline(probe=replay(spikes_nwb), bins=binned(width=width), rates=rates)
        return innervate("check", pipeline)

    return check


# Recordings


@pytest.mark.parametrize(
    ("value", "says"), [(np.nan, "not finite"), (-1.0, "negative"), (0.5, "not whole")]
)
def test_counts_that_cannot_be_are_refused_with_their_place(
    innervate, write_pipeline, npz, value, says
):
    counts = np.ones((50, 3))
    counts[17, 2] = value
    path = write_pipeline(probe=replay(npz(counts)), bins=binned())
    innervate("check", path).refuses("counts.npz", says, "bin 17, unit 2", "node 'probe'")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"counts": np.ones(5)}, "expected (bins, units)"),
        ({"width_s": np.nan}, "width of a bin"),
        ({"width_s": -0.005}, "width of a bin"),
        ({"counts": np.array([["x", "y", "z"]])}, "expected numbers"),
        ({"counts": np.array([[{}, 1, 2]], dtype=object)}, "cannot be read"),
        ({"segment_starts_s": np.array([0.5, 0.1])}, "segment"),
    ],
)
def test_an_npz_file_that_makes_no_sense_is_refused(innervate, write_pipeline, npz, arrays, says):
    path = write_pipeline(probe=replay(npz(**arrays)), bins=binned())
    innervate("check", path).refuses("counts.npz", says)


@pytest.mark.parametrize("value", [np.nan, -3.0])
def test_counts_in_nwb_that_cannot_be_are_refused(innervate, write_pipeline, tmp_path, value):
    path = tmp_path / "session.nwb"
    counts = np.ones((50, 3))
    recording = Recording("s", UNITS, 0.0, 0.25, np.zeros(1), counts=counts, width_s=0.005)
    write_recording(recording, path)
    with h5py.File(path, "r+") as file:
        module = file["processing/ecephys/binned_spikes"]
        attributes = dict(module["data"].attrs)
        counts[3, 1] = value
        del module["data"]
        module["data"] = counts
        module["data"].attrs.update(attributes)
    pipeline = write_pipeline(probe=replay(path), bins=binned())
    innervate("check", pipeline).refuses("session.nwb", "bin 3, unit 1", str(value))


def test_spikes_out_of_order_are_refused_with_their_place(innervate, write_pipeline, spikes_nwb):
    with h5py.File(spikes_nwb, "r+") as file:
        times = file["units/spike_times"]
        times[60], times[61] = times[61], times[60]
    pipeline = write_pipeline(probe=replay(spikes_nwb), bins=binned())
    innervate("check", pipeline).refuses("session.nwb", "unit b", "not in order", "spike 11")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda content: b"", "is empty"),
        (lambda content: content[: len(content) // 2], "truncated or damaged"),
        (lambda content: b"bin,a,b,c\n1,2,3,4\n", "no HDF5 file"),
    ],
)
def test_a_file_that_is_no_whole_nwb_file_is_refused(
    innervate, write_pipeline, spikes_nwb, spoil, says
):
    spikes_nwb.write_bytes(spoil(spikes_nwb.read_bytes()))
    innervate("check", write_pipeline(probe=replay(spikes_nwb), bins=binned())).refuses(
        "session.nwb", says, "node 'probe'"
    )


@pytest.mark.parametrize("seed", range(5))
def test_an_nwb_file_with_damage_anywhere_never_ends_in_a_traceback(
    innervate, write_pipeline, spikes_nwb, seed
):
    rng = random.Random(seed)
    content = bytearray(spikes_nwb.read_bytes())
    for _ in range(200):
        content[rng.randrange(len(content))] = rng.randrange(256)
    spikes_nwb.write_bytes(content)
    said = innervate("check", write_pipeline(probe=replay(spikes_nwb), bins=binned()))
    assert said.code in (0, 2)
    assert "Traceback" not in said.text


def test_hdf5_that_is_no_nwb_and_nwb_without_spikes_are_refused(
    innervate, write_pipeline, spikes_nwb, tmp_path
):
    plain = tmp_path / "plain.nwb"
    with h5py.File(plain, "w") as file:
        file["x"] = [1, 2]
    pipeline = write_pipeline(probe=replay(plain), bins=binned())
    innervate("check", pipeline).refuses("plain.nwb", "no NWB file")
    with h5py.File(spikes_nwb, "r+") as file:
        del file["units"]
    pipeline = write_pipeline(probe=replay(spikes_nwb), bins=binned())
    innervate("check", pipeline).refuses("session.nwb", "without spikes")


def test_a_file_that_is_not_there_is_refused_by_run_too(innervate, write_pipeline, tmp_path):
    target = tmp_path / "out.nwb"
    pipeline = write_pipeline(
        probe=replay(tmp_path / "none.nwb"), bins=binned(), saved=recorded(["bins"], target)
    )
    said = innervate("run", pipeline)
    said.refuses("none.nwb", "is not there", "pipeline.yaml:3", "node 'probe'")
    assert said.code == 2
    assert not list(tmp_path.glob("out.nwb*"))


# Units and bins


def test_a_unit_that_is_missing_is_named(innervate, write_pipeline, spikes_nwb):
    pipeline = write_pipeline(probe=replay(spikes_nwb), bins=binned(units=["a", "z"]))
    innervate("check", pipeline).refuses("node 'bins'", "'z'")


@pytest.mark.parametrize(
    ("units", "says"),
    [(("a", "b", "x"), "x"), (("c", "b", "a"), "another order"), (("a", "b"), "2")],
)
def test_a_model_made_for_other_units_is_refused(check_model, model_file, units, says):
    check_model(model_file(units)).refuses("model.onnx", "'bins'", says)


def test_a_bin_width_that_the_model_was_not_made_for_is_refused_with_both(check_model, model_file):
    check_model(model_file(), width="20 ms").refuses("model.onnx", "5 ms", "20 ms")


def test_bins_that_do_not_fit_the_bins_of_the_recording_are_refused(innervate, write_pipeline, npz):
    pipeline = write_pipeline(probe=replay(npz()), bins=binned(width="7 ms"))
    innervate("check", pipeline).refuses("5 ms", "7 ms", "multiple")


# Model files


def test_a_model_file_that_is_none_of_ours_is_refused(check_model, model_file, tmp_path):
    check_model(model_file(contract=False)).refuses("model.onnx", "node 'rates'")
    path = model_file()
    whole = path.read_bytes()
    for content in (b"", b"not a model", whole[: len(whole) // 2]):
        path.write_bytes(content)
        check_model(path).refuses("model.onnx", "node 'rates'")
    check_model(tmp_path / "none.onnx").refuses("none.onnx")


@pytest.mark.parametrize("place", ["/etc/hostname", "../secret.bin", "weights.bin"])
def test_a_model_whose_weights_lie_elsewhere_is_refused(check_model, model_file, place):
    check_model(model_file(external=place)).refuses("model.onnx", "weights in other files")


# What comes in while a run goes on


def run_to_the_end(start, tmp_path, pipeline: Path) -> dict:
    process = start("run", pipeline, "--report", tmp_path / "report.json")
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    assert "Traceback" not in text
    return json.loads((tmp_path / "report.json").read_text())


def test_a_source_clock_that_jumps_back_starts_a_new_segment(start, write_pipeline, tmp_path):
    target = tmp_path / "out.nwb"
    pipeline = write_pipeline(
        probe={"use": "bad_sources:ClockBackwards"},
        bins=binned(width="10 ms"),
        saved=recorded(["bins"], target),
    )
    run_to_the_end(start, tmp_path, pipeline)
    with pynwb.NWBHDF5IO(str(target), "r") as io:
        nwb = io.read()
        segments = nwb.intervals["segments"].to_dataframe()
        assert segments[["start_time", "stop_time"]].to_numpy().tolist() == [
            [10.5, 11.0],
            [20.0, 20.5],
        ]
        assert len(nwb.processing["ecephys"]["binned_spikes"].data) == 100
        assert pynwb.validate(io=io) == []


def test_spikes_that_are_late_or_of_no_unit_are_counted_and_the_rest_is_kept(
    start, write_pipeline, tmp_path
):
    target = tmp_path / "out.nwb"
    pipeline = write_pipeline(
        probe={"use": "bad_sources:OutOfOrder"},
        bins=binned(width="10 ms"),
        saved=recorded(["bins"], target),
    )
    report = run_to_the_end(start, tmp_path, pipeline)
    assert sum(report["nodes"]["bins"]["dropped"].values()) == 20
    counts = read_recording(target).counts
    assert counts.sum(axis=0).tolist() == [0, 100, 0]


def test_counts_that_cannot_be_are_refused_counted_and_marked_in_the_recording(
    start, write_pipeline, model_file, tmp_path
):
    target = tmp_path / "out.nwb"
    pipeline = write_pipeline(
        probe={"use": "bad_sources:Counts"},
        rates={"use": "model", "from": "probe", "file": str(model_file())},
        saved=recorded(["rates"], target),
    )
    report = run_to_the_end(start, tmp_path, pipeline)
    assert sum(report["nodes"]["rates"]["dropped"].values()) == 3
    with pynwb.NWBHDF5IO(str(target), "r") as io:
        nwb = io.read()
        assert len(nwb.processing["ecephys"]["rates"].data) == 97
        drops = nwb.processing["run"]["drops"].to_dataframe()
        assert drops["packets"].tolist() == [1, 1, 1]
        assert np.allclose(drops["time"], [0.055, 0.105, 0.155])
        assert hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest() in nwb.notes


def test_a_source_that_breaks_its_word_ends_the_run_and_what_came_is_kept(
    start, write_pipeline, tmp_path
):
    target = tmp_path / "out.nwb"
    pipeline = write_pipeline(
        probe={"use": "bad_sources:WrongShape"}, saved=recorded(["probe"], target)
    )
    process = start("run", pipeline)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "node 'probe'" in text
    assert "Traceback" not in text
    assert len(read_recording(target).counts) == 1


@pytest.mark.skipif(not Path("/proc/net/unix").exists(), reason="finds sockets as Linux lists them")
def test_a_strangers_bytes_on_every_socket_of_a_run_change_nothing(
    start, write_pipeline, packets_of_a_run, tmp_path
):
    target = tmp_path / "out.nwb"
    log = tmp_path / "out.nwb.log"
    pipeline = write_pipeline(
        probe={"use": "bad_sources:Steady"},
        bins=binned(),
        tap={"use": "zmq", "from": "bins", "bind": f"ipc://{tmp_path}/tap"},
        saved=recorded(["bins"], target),
    )
    process = start("run", pipeline, "--report", tmp_path / "report.json")
    packets_of_a_run(process, log, 50)
    names = sockets_of(process.pid)
    assert len(names) >= 5
    rng = random.Random(0)
    with zmq.Context() as context:
        for name in (*sorted(names), f"{tmp_path}/tap"):
            disturb(context, name, rng)
    so_far = sum(packets_of_a_run(process, log, 50).values())
    packets_of_a_run(process, log, so_far + 100)
    psutil.Process(process.pid).terminate()
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0, text
    assert "Traceback" not in text
    # It heads a column of the table of nodes, which refused nothing.
    assert text.count("refused") == 1, "the terminal is not for this"
    assert json.loads((tmp_path / "report.json").read_text())["refused"] > 0
    with pynwb.NWBHDF5IO(str(target), "r") as io:
        run = io.read().processing["run"]
        seq = run["packets_binned_spikes"]["seq"][:]
        assert np.array_equal(seq, np.arange(len(seq)))
        assert "drops" not in run.data_interfaces


def sockets_of(pid: int) -> set[str]:
    """Return the abstract sockets of a run, and of no other that goes on beside it."""
    own = {
        os.readlink(file).removeprefix("socket:[").removesuffix("]")
        for process in (psutil.Process(pid), *psutil.Process(pid).children())
        for file in Path(f"/proc/{process.pid}/fd").iterdir()
        if os.path.lexists(file)
    }
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return {line[7][1:] for line in lines if line[6] in own and "@innervate-" in line[-1]}


def disturb(context: zmq.Context, name: str, rng: random.Random) -> None:
    """Send noise to a socket: as bare bytes, and as messages of every kind of ZeroMQ socket."""
    address = name if name.startswith("/") else f"\0{name}"
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as bare:
            try:
                bare.connect(address)
                bare.sendall(rng.randbytes(rng.randrange(1, 500)))
            except OSError:
                continue
    url = f"ipc://{name}" if name.startswith("/") else f"ipc://@{name}"
    for kind in (zmq.DEALER, zmq.PUSH, zmq.PUB, zmq.XSUB, zmq.ROUTER, zmq.REQ):
        with context.socket(kind) as stranger:
            stranger.linger = 200
            stranger.connect(url)
            for _ in range(5):
                frames = [rng.randbytes(rng.randrange(200)) for _ in range(rng.randrange(1, 4))]
                try:
                    stranger.send_multipart(frames, zmq.NOBLOCK)
                except zmq.ZMQError:
                    break
