"""Runs whose whole tree is killed, or whose disk fills up, leave a recording that can be closed."""

from __future__ import annotations

import random
import resource

import numpy as np
import psutil
import pynwb
import pytest

from stream.recording_log import read_log

STEADY = {"use": "bad_sources:Steady"}
BINS = {"use": "spikes.bin", "from": "probe", "width": "5 ms"}
MARKERS = {"use": "bad_sources:SteadyMarkers"}
RAW = np.random.default_rng(0).normal(0, 20, (1000, 4)).astype(np.float32)


@pytest.fixture
def recording_run(start, write_pipeline, tmp_path):
    """Start a run that records to out.nwb until it is ended."""
    np.save(tmp_path / "raw.npy", RAW)
    raw = {"use": "samples.replay", "file": "raw.npy", "rate": "10 kHz", "loop": True}

    def call(**options):
        names = ["probe", "bins", "raw", "marks"]
        saved = {"use": "record", "from": names, "file": str(tmp_path / "out.nwb")}
        nodes = {"probe": STEADY, "bins": BINS, "raw": raw, "marks": MARKERS, "saved": saved}
        return start("run", write_pipeline(**nodes), **options)

    return call


@pytest.mark.parametrize("seed", [0, 1])
def test_a_run_killed_at_any_moment_leaves_a_recording_that_recover_closes(
    recording_run, innervate, packets_of_a_run, tmp_path, seed
):
    target, log = tmp_path / "out.nwb", tmp_path / "out.nwb.log"
    process = recording_run()
    wanted = random.Random(seed).randrange(1, 400)
    seen = packets_of_a_run(process, log, wanted)
    innervate("recover", log).refuses("being written")
    tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for member in tree:
        member.kill()
    process.communicate()
    psutil.wait_procs(tree, timeout=10)
    assert log.exists()
    assert not target.exists()

    pipeline = tmp_path / "pipeline.yaml"
    innervate("run", pipeline).refuses("innervate recover", str(log))
    said = innervate("recover", log)
    assert said.code == 0, said.text
    assert not log.exists()
    assert pynwb.validate(path=str(target)) == []
    with pynwb.NWBHDF5IO(str(target), "r") as io:
        nwb = io.read()
        assert "cut off" in nwb.notes
        for stream, packets in seen.items():
            seq = nwb.processing["run"][f"packets_{stream}"]["seq"][:].tolist()
            assert seq == list(range(len(seq)))
            assert len(seq) >= packets
        if "raw" in seen:
            samples = nwb.acquisition["raw"].data[:]
            assert np.array_equal(samples, np.resize(RAW, samples.shape))
            assert nwb.acquisition["raw"].rate == 10_000
        if "marks" in seen:
            texts = list(nwb.events["marks"]["annotation"][:])
            assert texts == [f"trial {k}" for k in range(len(texts))]


def test_a_disk_that_fills_up_ends_the_run_with_one_sentence_and_loses_nothing(
    recording_run, innervate, tmp_path
):
    target, log = tmp_path / "out.nwb", tmp_path / "out.nwb.log"
    process = recording_run(
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    )
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 1, text
    assert "Traceback" not in text
    words = " ".join(text.split())
    assert "node 'saved'" in words
    assert "free on its disk" in words
    assert "innervate recover" in words
    assert not target.exists()
    reader = read_log(log)
    assert len(list(reader)) > 100
    assert reader.lost_bytes == 0
    assert innervate("recover", log).code == 0
    with pynwb.NWBHDF5IO(str(target), "r") as io:
        assert io.read().processing["ecephys"]["bins"].data.shape[1] == 3


def test_recover_refuses_what_is_no_log(innervate, tmp_path):
    innervate("recover", tmp_path / "none.nwb.log").refuses("is not there")
    for content, says in ((b"", "is empty"), (b"something else", "no log of a recording")):
        log = tmp_path / "x.nwb.log"
        log.write_bytes(content)
        innervate("recover", log).refuses(says)
        assert log.exists()
    innervate("recover", log, "--out", tmp_path / "x.txt").refuses("ends in '.nwb'")
    log.rename(tmp_path / "x.bin")
    innervate("recover", tmp_path / "x.bin").refuses("--out")
