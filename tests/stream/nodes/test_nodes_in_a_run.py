"""The model, the tap and the console in real processes, read by a program that is not ours."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from innervate_command import innervate

from stream.inference import StreamingSession
from stream.spikes.simulate import SimulateSettings, SpikesSimulate

WINDOW = 4
SIMULATED = {"population": "lorenz", "units": 8, "seed": 3, "duration": "2 s", "mean_rate": "40 Hz"}

# Written from docs/wire-format.md alone.
STRANGER = """
import json, sys
import msgpack, zmq

socket = zmq.Context().socket(zmq.SUB)
socket.rcvtimeo = 40000
for stream in ("bins", "rates"):
    socket.subscribe(stream)
socket.connect(sys.argv[1])
packets, open_streams = [], {"bins", "rates"}
while open_streams:
    stream, header, payload = socket.recv_multipart()
    header = msgpack.unpackb(header)
    if header["kind"] == "end":
        open_streams.discard(stream.decode())
    packets.append([stream.decode(), header, payload.hex()])
json.dump(packets, sys.stdout)
assert "stream" not in sys.modules
"""


@pytest.fixture(scope="module")
def units():
    settings = SimulateSettings.model_validate(SIMULATED)
    return SpikesSimulate(settings).outputs({})[""].names


def test_a_stranger_reads_a_running_model_and_can_compute_the_same(tmp_path, ring, units):
    model = ring(tmp_path / "ring.onnx", names=units, window=WINDOW)
    pipeline, report = tmp_path / "p.yaml", tmp_path / "r.json"
    address = f"ipc://{tmp_path}/tap"
    nodes = {
        "probe": {"use": "spikes.simulate", **SIMULATED},
        "bins": {"use": "spikes.bin", "from": "probe", "width": "5 ms", "group": "decode"},
        "rates": {"use": "model", "from": "bins", "file": "ring.onnx", "group": "decode"},
        "tap": {"use": "zmq", "from": ["bins", "rates"], "bind": address},
        "view": {"use": "console", "from": ["rates", "probe"]},
    }
    pipeline.write_text(yaml.safe_dump({"name": "tapped", "nodes": nodes}))
    stranger = subprocess.Popen(
        [sys.executable, "-c", STRANGER, address], stdout=subprocess.PIPE, text=True
    )
    run = innervate("run", pipeline, "--report", report)
    assert run.returncode == 0, run.stderr
    packets = json.loads(stranger.communicate(timeout=60)[0])

    streams = {"bins": [], "rates": []}
    for stream, header, payload in packets:
        if header["kind"] != "end":
            data = np.frombuffer(bytes.fromhex(payload), header["dtype"]).reshape(header["shape"])
            streams[stream].append((header, data))
    for name, seen in streams.items():
        seqs = [header["seq"] for header, _ in seen]
        assert len(seqs) > 10
        assert seqs == list(range(seqs[0], 400)), f"nothing of {name} was lost after it joined"
    first = max(seen[0][0]["seq"] for seen in streams.values())
    bins, rates = (
        [(h["t_ns"], data) for h, data in seen if h["seq"] >= first] for seen in streams.values()
    )
    assert [t_ns for t_ns, _ in rates] == [t_ns for t_ns, _ in bins]
    session = StreamingSession(model, "cpu")
    own = [session.step({"counts": counts})["rates"] for _, counts in bins]
    live = [values for _, values in rates]
    assert np.array_equal(own[WINDOW:], live[WINDOW:]), "after one window it knows the whole state"

    told = json.loads(report.read_text())
    assert told["models"]["rates"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert told["models"]["rates"]["providers"]
    assert "rates: 8 units, " in run.stdout
