"""A disk that fills up is told in a sentence, and costs nothing that was recorded before."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pynwb
import pytest

from stream.errors import RecordingError
from stream.recording_log import read_log
from stream.recording_nwb import finish_log, log_to_nwb

LIMIT_BYTES = 200_000
RECORDER = """
import json, resource, sys
from pathlib import Path
import numpy as np
from stream.errors import RecordingError
from stream.node import Context, StreamSpec
from stream.nodes.record import Record, RecordSettings
from stream.packet import Packet

folder, limit = Path(sys.argv[1]), int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
spec = StreamSpec("rates", (96,), "float32", (), "Hz", 0.005)
node = Record(RecordSettings(file=folder / "session.nwb"))
node.open(Context("saved", {"rates": spec}, folder))
result = {"acknowledged": 0, "error": ""}
data = np.random.default_rng(0).random(96).astype(np.float32)
try:
    for k in range(1_000_000):
        node.process("rates", Packet("rates", data + k, 0, k, k + 1, seq=k))
        result["acknowledged"] += 1
except RecordingError as error:
    result["error"] = str(error)
node.close()
print(json.dumps(result))
"""


def innervate(*arguments: object, limit: int) -> subprocess.CompletedProcess[str]:
    """Run a command that may write no file of more than `limit` bytes."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("innervate")), *map(str, arguments)],
        capture_output=True, text=True, timeout=100, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip


def test_an_import_that_finds_no_room_leaves_nothing(tmp_path):
    np.savez(tmp_path / "s.npz", Y=np.random.default_rng(0).poisson(1.0, (2000, 50)))
    options = ["--counts", "Y", "--width", "50 ms", "--out", tmp_path / "s.nwb"]
    done = innervate("import", tmp_path / "s.npz", *options, limit=20_000)
    assert done.returncode == 1
    assert f"{tmp_path / 's.nwb'} cannot be written: File too large." in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


def test_a_training_and_its_plots_that_find_no_room_say_so(tmp_path):
    counts = np.random.default_rng(0).poisson(1.0, (500, 20))
    np.savez(tmp_path / "s.npz", counts=counts, width_s=0.05)
    told = ["--data", tmp_path / "s.npz", "--out", tmp_path / "run", "--updates", 3]
    done = innervate("train", "stndt", *told, limit=20_000)
    assert done.returncode == 1
    assert "checkpoint-1.pt cannot be written (File too large)" in done.stderr
    assert "Traceback" not in done.stderr
    assert innervate("train", "stndt", *told, "--resume", limit=10_000_000).returncode == 0
    told = ["--data", tmp_path / "s.npz", "--model", tmp_path / "run", "--plots", tmp_path / "p"]
    done = innervate("evaluate", "stndt", *told, limit=5_000)
    assert done.returncode == 2
    assert "--plots:" in done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr


def record_until_full(folder: Path, limit: int = 0) -> dict[str, object]:
    ended = subprocess.run(
        [sys.executable, "-c", RECORDER, str(folder), str(limit)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ended.stderr == ""
    assert ended.returncode == 0
    return dict(json.loads(ended.stdout))


def check_nothing_lost(folder: Path, result: dict[str, object], target: Path) -> None:
    log = folder / "session.nwb.log"
    assert str(log) in str(result["error"])
    assert "free on its disk" in str(result["error"])
    assert f"innervate recover {log}" in str(result["error"])
    assert not (folder / "session.nwb").exists()
    reader = read_log(log)
    assert [item.packet.seq for item in reader] == list(range(int(str(result["acknowledged"]))))
    assert reader.lost_bytes == 0
    done = log_to_nwb(log, target)
    assert done.packets["rates"] == result["acknowledged"]
    assert done.cut_off
    assert pynwb.validate(path=str(target)) == []


def test_a_file_that_may_not_grow_ends_the_recording_without_loss(tmp_path):
    result = record_until_full(tmp_path, LIMIT_BYTES)
    assert "File too large" in str(result["error"])
    assert int(str(result["acknowledged"])) > 100
    check_nothing_lost(tmp_path, result, tmp_path / "recovered.nwb")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    command = ["mount", "-t", "tmpfs", "-o", f"size={LIMIT_BYTES}", "innervate-test", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_ends_the_recording_without_loss(small_disk, tmp_path):
    result = record_until_full(small_disk)
    assert "No space left on device" in str(result["error"])
    check_nothing_lost(small_disk, result, tmp_path / "recovered.nwb")


def test_a_disk_too_full_for_the_nwb_file_keeps_the_log(small_disk):
    record_until_full(small_disk)
    log = small_disk / "session.nwb.log"
    before = log.read_bytes()
    with pytest.raises(RecordingError, match=r"safe in .*\.nwb\.log: make room"):
        finish_log(log, small_disk / "session.nwb")
    assert log.read_bytes() == before
    assert [path.name for path in small_disk.iterdir()] == [log.name]
