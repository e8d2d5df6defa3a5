"""Sources of instruments in real processes, beside each other in one run."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
import zmq
from onnx import TensorProto, helper

from stream.instruments.names import expand_names
from stream.model_file import METADATA_KEY, Contract, Port, to_json
from stream.packet import decode
from stream.spikes.replay import SpikesReplay
from tests.peers.home_rig import WebSocketRig
from tests.peers.nsp_double import NspDouble
from tests.peers.recorded_spikes import maze
from tests.peers.rhx_double import RhxDouble

COMMAND = "import sys; from stream.commands import main; main()"
INSTRUMENTS = "stream.instruments"
CONFIGS = Path(__file__).parents[3] / "configs"


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def _shipped(name: str, double: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the nodes of a shipped pipeline, which meet a double and write into a folder."""
    nodes = yaml.safe_load((CONFIGS / f"{name}-to-rates.yaml").read_text())["nodes"]
    nodes["probe"] |= double
    units = expand_names(nodes["probe"].get("channels") or nodes["probe"]["names"])
    nodes["rates"]["file"] = str(_model(folder / f"{name}.onnx", units))
    nodes["saved"]["file"] = str(folder / Path(nodes["saved"]["file"]).name)
    del nodes["view"]
    found = {}
    for key, node in nodes.items():
        # Each is another one in the run of all of them.
        node["group"] = f"{name}_{node.get('group', key)}"
        if "from" in node:
            streams = node["from"] if isinstance(node["from"], list) else [node["from"]]
            node["from"] = [f"{name}_{stream}" for stream in streams]
        found[f"{name}_{key}"] = node
    return found


def _model(path: Path, units: tuple[str, ...]) -> Path:
    """Write a model whose rates are the counts of a bin over its width."""
    counts, rates = (
        Port(
            name=kind, kind=kind, shape=(len(units),), axes=("unit",), unit=unit, channels=units,
            period_s=0.02,
        )
        for kind, unit in (("counts", "count"), ("rates", "Hz"))
    )  # fmt: skip
    contract = Contract(name="count", version="1", task="rates", inputs=(counts,), outputs=(rates,))
    sides = [
        [helper.make_tensor_value_info(port.name, TensorProto.FLOAT, port.shape)]
        for port in (counts, rates)
    ]
    step = helper.make_node("Mul", ["counts", "bins_a_second"], ["rates"])
    constant = onnx.numpy_helper.from_array(np.float32([50]), "bins_a_second")
    graph = helper.make_graph([step], "g", *sides, [constant])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(made, {METADATA_KEY: to_json(contract)})
    path.write_bytes(made.SerializeToString())
    return path


@pytest.fixture(scope="module")
def seen(tmp_path_factory, shared_data):
    """The report of a run on doubles, and how many rates of each a stranger saw, and their sum."""
    folder = tmp_path_factory.mktemp("instruments")
    trial = maze(shared_data / "spikes" / "mc_maze_trials" / "trial_748_data.csv")
    port = _free_port()
    rhx = RhxDouble(trial).start()
    nsp = NspDouble(trial, ("127.0.0.1", port)).start()
    rig = WebSocketRig()
    doubles = {
        "intan": {"port": rhx.ports[0]},
        "blackrock": {"listen": f"127.0.0.1:{port}", "channels": ["1..182"]},
        "feed": {"address": rig.address},
    }
    nodes: dict[str, Any] = {}
    for name, double in doubles.items():
        nodes |= _shipped(name, double, folder)
    rates = [f"{name}_rates" for name in doubles]
    nodes["tap"] = {"use": "zmq", "from": rates, "bind": f"ipc://{folder}/tap"}
    (folder / "p.yaml").write_text(yaml.safe_dump({"name": "instruments", "nodes": nodes}))
    report = folder / "report.json"
    running = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "run", str(folder / "p.yaml"), "--report", str(report)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    counted = {name: [0, 0] for name in rates}
    with zmq.Context() as context:
        tap = context.socket(zmq.SUB)
        tap.subscribe("")
        tap.connect(f"ipc://{folder}/tap")
        ms = 0
        while min(n for n, _ in counted.values()) < 30:
            assert running.poll() is None, running.communicate()[0]
            ms += 1
            rig.send(f'{{"t": {30 * ms}, "spikes": [[{30 * ms - 15}, {ms % 96}]]}}')
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
    return json.loads(report.read_text()), counted, rhx, folder


def test_the_shipped_pipelines_of_three_instruments_give_rates(seen) -> None:
    report, counted, _, _ = seen
    assert all(hz > 0 for _, hz in counted.values())
    for name in ("intan", "blackrock", "feed"):
        nodes = report["nodes"]
        assert nodes[f"{name}_probe"]["dropped"] == {}
        assert nodes[f"{name}_probe"]["errors"] == 0
        assert nodes[f"{name}_bins"]["gaps"] == 0
        assert nodes[f"{name}_rates"]["packets_out"] == nodes[f"{name}_bins"]["packets_out"]


@pytest.mark.parametrize("name", ["intan", "blackrock", "feed"])
def test_what_they_record_can_be_replayed(seen, name) -> None:
    file = seen[3] / f"{name}.nwb"
    node = SpikesReplay(SpikesReplay.Settings(file=file, speed="max"))
    units = {"intan": 32, "blackrock": 182, "feed": 96}[name]
    assert len(node.outputs({})[""].names) == units


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
