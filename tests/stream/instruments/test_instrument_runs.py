"""Sources of instruments in real processes, beside each other in one run."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys

import pytest
import yaml
import zmq

from stream.packet import decode
from tests.peers.home_rig import WebSocketRig
from tests.peers.nsp_double import NspDouble
from tests.peers.recorded_spikes import maze
from tests.peers.rhx_double import RhxDouble

COMMAND = "import sys; from stream.commands import main; main()"
INSTRUMENTS = "stream.instruments"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture(scope="module")
def seen(tmp_path_factory, shared_data):
    """The report of a run on doubles, and how many bins and spikes of each a stranger saw."""
    folder = tmp_path_factory.mktemp("instruments")
    trial = maze(shared_data / "spikes" / "mc_maze_trials" / "trial_748_data.csv")
    port = _free_port()
    rhx = RhxDouble(trial).start()
    nsp = NspDouble(trial, ("127.0.0.1", port)).start()
    rig = WebSocketRig()
    sources = {
        "intan": {
            "use": f"{INSTRUMENTS}.intan.source:Intan",
            "channels": ["A-000..A-127", "B-000..B-053"],
            "port": rhx.ports[0],
        },
        "blackrock": {
            "use": f"{INSTRUMENTS}.blackrock.source:Blackrock", "channels": ["1..182"],
            "listen": f"127.0.0.1:{port}",
        },
        "rig": {
            "use": f"{INSTRUMENTS}.feeds.feed:Feed", "address": rig.address, "kind": "spikes",
            "names": ["a", "b"],
        },
    }  # fmt: skip
    bins = {
        f"{name}_bins": {"use": "spikes.bin", "from": name, "width": "5 ms", "group": name}
        for name in sources
    }
    nodes = {name: {**settings, "group": name} for name, settings in sources.items()} | bins
    nodes["tap"] = {"use": "zmq", "from": list(bins), "bind": f"ipc://{folder}/tap"}
    (folder / "p.yaml").write_text(yaml.safe_dump({"name": "instruments", "nodes": nodes}))
    report = folder / "report.json"
    running = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "run", str(folder / "p.yaml"), "--report", str(report)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    counted = {name: [0, 0] for name in bins}
    with zmq.Context() as context:
        tap = context.socket(zmq.SUB)
        tap.subscribe("")
        tap.connect(f"ipc://{folder}/tap")
        ms = 0
        while min(n for n, _ in counted.values()) < 60:
            assert running.poll() is None, running.communicate()[0]
            ms += 1
            rig.send(f'{{"t": {ms / 1000}, "spikes": [[{ms / 1000 - 0.0005}, {ms % 2}]]}}')
            while tap.poll(1):
                stream, packet = decode(tap.recv_multipart())
                counted[stream][0] += 1
                counted[stream][1] += int(packet.data.sum())
        tap.close(linger=0)
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=30)
    assert running.returncode == 0, out
    for double in (rhx, nsp, rig):
        double.stop()
    return json.loads(report.read_text()), counted, rhx


def test_bins_of_three_instruments_come_out_of_one_run(seen) -> None:
    report, counted, _ = seen
    assert all(spikes > 0 for _, spikes in counted.values())
    for name in ("intan", "blackrock", "rig"):
        assert report["nodes"][name]["dropped"] == {}
        assert report["nodes"][name]["errors"] == 0
        assert report["nodes"][f"{name}_bins"]["gaps"] == 0


def test_rhx_is_stopped_when_the_run_ends(seen) -> None:
    assert "set runmode stop" in seen[2].log


def test_what_cannot_be_reached_ends_the_run_before_it_starts(tmp_path) -> None:
    nodes = {
        "probe": {"use": f"{INSTRUMENTS}.intan.source:Intan", "channels": "A-000", "port": 1},
        "bins": {"use": "spikes.bin", "from": "probe", "width": "5 ms"},
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"name": "lost", "nodes": nodes}))
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "run", str(tmp_path / "p.yaml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Remote TCP Control" in done.stderr
    assert "Traceback" not in done.stderr
