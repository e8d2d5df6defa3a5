"""Loops in real processes, whose data stop and whose processes are killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import mido
import psutil
import pynwb
import pytest
import yaml
import zmq
from pythonosc.osc_packet import OscPacket
from ttl_box import Box

from stream.packet import decode

HERE = Path(__file__).parent
RULES = {"fast": {"channel": "u2", "above": "50 Hz"}}
# Outputs wait longer than the trigger, so that which of them misses its data first is certain.
PATIENT = {"max_age": "10 s"}
RELEASED, STALL = {"stall": "300 ms", **PATIENT}, {"stall": "700 ms", **PATIENT}


def loop(box, **probe):
    return {
        "probe": {"use": "toy_loop:Wave", **probe},
        "go": {"use": "trigger", "from": "probe", "rules": RULES, "armed": True, **RELEASED},
        "stim": {
            "use": "serial", "from": ["go", "go.state"], "port": str(box.link), "safe": "0",
            "fire": {"fast": "F"}, "levels": {"fast": ["l", "h"]}, **STALL,
        },
    }  # fmt: skip


class Tapped:
    """What a subscriber of a tap gets until the streams end."""

    def __init__(self, address, streams):
        self.packets = {stream: [] for stream in streams}
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.rcvtimeo = 40_000
        self._socket.subscribe("")
        self._socket.connect(address)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        open_streams = set(self.packets)
        while open_streams:
            stream, packet = decode(self._socket.recv_multipart())
            if packet.kind == "end":
                open_streams.discard(stream)
            else:
                self.packets[stream].append(packet)

    def close(self):
        self._thread.join()
        self._socket.close()
        self._context.term()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, run_pipeline):
    """Run a loop with every output, whose source pauses after its second firing."""
    folder = tmp_path_factory.mktemp("whole")
    box = Box(folder / "stim")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    address = f"ipc://{folder}/tap"
    tapped = Tapped(address, ["go", "go.state"])
    nodes = {
        **loop(box, count=80, turns_at=[10, 20, 30, 60], hole_after=50, hole_ns=1_600_000_000),
        "osc": {"use": "osc", "from": ["go", "go.state"], "port": udp.getsockname()[1], **STALL},
        "play": {
            "use": "trigger.notes",
            "from": "go",
            "notes": {"fast": 72},
            "length": "50 ms",
            **PATIENT,
        },
        "score": {"use": "midi", "from": "play", "file": str(folder / "loop.mid")},
        "tap": {"use": "zmq", "from": ["go", "go.state"], "bind": address},
        "saved": {"use": "record", "from": ["go", "go.state"], "file": str(folder / "loop.nwb")},
    }
    report = run_pipeline(folder, **nodes)
    tapped.close()
    udp.setblocking(False)
    said = []
    while True:
        try:
            data = udp.recv(65535)
        except BlockingIOError:
            break
        said.append([[m.message.address, *m.message.params] for m in OscPacket(data).messages])
    udp.close()
    box.unplug()
    assert (report.exit, report.message) == (0, "")
    return {"folder": folder, "box": box.got, "said": said, "tapped": tapped, "report": report}


def test_a_box_fires_and_is_safe_in_the_hole_and_at_the_end(whole):
    # Two links may bring the firing before its level or after. In the hole the trigger releases its
    # rule, and then the sink misses the trigger. After it the rates are as high as they were.
    assert whole["box"].replace(b"hF", b"Fh") == b"0FhlFhl0Fhl00"
    notes = whole["report"].nodes["stim"]["notes"]
    assert notes["stalls"] == {"go": 1}
    assert (notes["fired"], notes["levels_set"]) == (3, 6)
    assert notes["safe_at_end"] is True


def test_an_osc_receiver_hears_firings_levels_and_the_stall(whole):
    said = whole["said"]
    assert [m[0][1] for m in said if m[0][0] == "/go"] == ["fast"] * 3
    safe = [["/go.state", 0], ["/go.state/stalled", 1]]
    assert [m for m in said if any(part[0] == "/go.state/stalled" for part in m)] == [
        safe, [["/go.state/stalled", 0]], safe
    ]  # fmt: skip
    assert safe in said[-2:]


def test_every_firing_is_logged_with_the_age_of_its_data(whole):
    lines = (whole["folder"] / "run" / "go.firings.jsonl").read_text().splitlines()
    firings = [json.loads(line) for line in lines]
    assert [f["source_ns"] for f in firings] == [110_000_000, 310_000_000, 520_000_000]
    for firing in firings:
        assert firing["fired"]
        assert firing["value"] == 100
        assert firing["channel"] == "u2"
        assert firing["age_ms"] >= 0
    assert whole["report"].nodes["go"]["notes"]["fast"] == {"fired": 3}


def test_a_tap_publishes_firings_and_levels(whole):
    tapped = whole["tapped"].packets
    fired = [p.source_end_ns for p in tapped["go"] if p.data.tolist() == [1]]
    assert fired[-2:] == [310_000_000, 520_000_000]
    assert all(p.kind == "trigger" for p in tapped["go"])
    assert {tuple(p.meta.get("fired", ())) for p in tapped["go"]} == {(), ("fast",)}
    assert all(p.kind == "levels" for p in tapped["go.state"])
    assert tapped["go.state"][-1].data.tolist() == [0]


def test_a_firing_plays_a_note_into_a_midi_file(whole):
    notes = [m for m in mido.MidiFile(whole["folder"] / "loop.mid") if m.type == "note_on"]
    assert [m.note for m in notes if m.velocity] == [72, 72, 72]


def test_firings_and_levels_can_be_recorded(whole):
    with pynwb.NWBHDF5IO(whole["folder"] / "loop.nwb", "r") as io:
        series = io.read().acquisition
        assert series["go"].data[:].sum() == 3
        assert len(series["go"].data) == 80
        assert len(series["go_state"].data) == 81, "one of them tells the stall"


def worker(node):
    """Return the process of a node that runs below this one."""
    children = psutil.Process().children(recursive=True)
    return next(child for child in children if child.name() == f"in:{node}")


@pytest.mark.parametrize("killed", ["probe", "go"])
def test_when_what_feeds_it_is_killed_a_box_is_brought_to_its_safe_state(
    run_pipeline, tmp_path, box, killed
):
    done = []

    def kill_when_high(status):
        if box.got.endswith((b"h", b"F")) and not done:
            done.append(worker(killed))
            done[0].kill()

    report = run_pipeline(
        tmp_path, on_status=kill_when_high, **loop(box, count=10_000, turns_at=[5])
    )
    assert report.exit == 1
    assert sorted(box.got[:3]) == sorted(b"0Fh")
    assert box.got.endswith(b"0")
    assert set(box.got[3:]) <= set(b"0l"), "the trigger may have missed its data first"


def test_when_the_whole_run_is_killed_a_box_is_brought_to_its_safe_state(tmp_path, box, wait_for):
    file = tmp_path / "loop.yaml"
    file.write_text(yaml.safe_dump({"nodes": loop(box, count=10_000, turns_at=[5])}))
    command = "import sys; from stream.commands import main; main()"
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    run = subprocess.Popen(
        [sys.executable, "-c", command, "run", str(file)], start_new_session=True,
        env={**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: len(box.got) == 3, run)
    below = psutil.Process(run.pid).children(recursive=True)
    guard = next(p for p in below if "stream.loop.serial_guard" in p.cmdline())
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    wait_for(lambda: box.got[3:] == b"0")
    wait_for(lambda: not guard.is_running())
