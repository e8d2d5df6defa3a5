"""A run that goes on, whose trigger is armed and disarmed from outside."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pynwb
import pytest
import yaml
import zmq
from ttl_box import Box

from stream.commands.arm import arm, disarm
from stream.commands.top import top
from stream.errors import ConfigError
from stream.nodes.run_status import RunStatus
from stream.runtime.run_folders import find_run
from stream.runtime.switching import RECENT_NS, Switch, Way

HERE = Path(__file__).parent
# On a busy machine nothing else brings the box to its safe state.
PATIENT = {"max_age": "30 s", "stall": "30 s"}
NODES = {
    # High for half of the time, so that it fires five times a second.
    "probe": {"use": "toy_loop:Wave", "count": 100_000, "turns_at": list(range(10, 20_000, 10))},
    "go": {
        "use": "trigger",
        "from": "probe",
        "rules": {"fast": {"channel": "u2", "above": "50 Hz"}},
        **PATIENT,
    },
}


@pytest.fixture(scope="module")
def going(tmp_path_factory, wait_for):
    """Return a run in a process of its own, with a dry trigger, a box and a recording."""
    folder = tmp_path_factory.mktemp("run")
    box = Box(folder / "stim")
    stim = {
        "use": "serial", "from": ["go", "go.state"], "port": str(box.link), "safe": "0",
        "fire": {"fast": "F"}, "levels": {"fast": ["l", "h"]}, **PATIENT,
    }  # fmt: skip
    saved = {"use": "record", "from": ["go", "go.armed"], "file": str(folder / "loop.nwb")}
    file = folder / "loop.yaml"
    file.write_text(
        yaml.safe_dump({"name": "loop", "nodes": {**NODES, "stim": stim, "saved": saved}})
    )
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    command = "import sys; from stream.commands import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "run", str(file)], text=True,
        env={**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(folder)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        run = Going(process, box)
        wait_for(run.runs, process)
        yield run
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    box.unplug()


class Going:
    def __init__(self, process, box):
        self.process = process
        self.box = box

    def runs(self):
        with contextlib.suppress(ConfigError):
            return self.notes().get("fast", {}).get("dry", 0) > 0
        return False

    def notes(self):
        status = RunStatus(find_run(None)[1].status)
        status.wait(5)
        status.close()
        return status.newest.get("nodes", {}).get("go", {}).get("notes", {})

    def ask(self, node, armed, *, ago_ns=0, token=None):
        way = find_run(None)[1].switch
        switch = Switch(Way(way.address, token or way.token), "a test")
        assert switch.ask(node, armed, time.monotonic_ns() - ago_ns)
        answer = switch.answer()
        switch.close()
        return answer

    def fired_again(self):
        """Return what tells whether the rule has fired once more, be it dry or not."""

        def count():
            return sum(self.notes()["fast"].values())

        before = count()
        return lambda: count() > before


def told(command, *given):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        command(*given)
    return out.getvalue()


def test_who_lacks_the_token_or_is_late_arms_nothing(going, wait_for):
    assert going.ask("go", True, token="0" * 32) == "that is not the token of this run."
    assert "there are go" in going.ask("stim", True)
    with zmq.Context() as context, context.socket(zmq.REQ) as stranger:
        stranger.connect(find_run(None)[1].switch.address)
        stranger.send(b"arm go")
        assert stranger.recv() == b"that is no wish to arm or disarm."
    for ago_ns in (RECENT_NS + 1, -10 * RECENT_NS):
        assert going.ask("go", True, ago_ns=ago_ns) == "", "the run cannot know yet"
    wait_for(going.fired_again())
    assert going.notes()["armed"] is False
    assert going.box.got == b"0"
    log = next(find_run(None)[0].glob("go.log")).read_text()
    assert log.count("'go' stays as it is: a test asked to arm it, but that came too late") == 2


def test_a_command_arms_and_another_brings_the_box_to_its_safe_state_at_once(going, wait_for):
    assert told(arm, "loop", "go") == "go: armed\n"
    wait_for(lambda: going.box.got.count(b"F") > 1)
    assert re.search(r"\bgo +armed", told(top, "loop", True))
    # Also a wish to disarm that was held up is heard.
    assert going.ask("go", False, ago_ns=100 * RECENT_NS) == ""
    wait_for(lambda: going.box.got.endswith(b"0"))
    so_far = going.box.got
    wait_for(lambda: going.notes()["armed"] is False)
    wait_for(going.fired_again())
    assert set(going.box.got[len(so_far) :]) <= set(b"0")
    assert told(arm, "loop", "go") == "go: armed\n"
    assert told(disarm, "loop") == "go: disarmed\n"
    with pytest.raises(ConfigError, match=r"no node 'stim' that can be armed; there are go\."):
        arm("loop", "stim")


def test_switches_are_logged_and_recorded_with_their_times(going, tmp_path):
    folder = find_run(None)[0]
    going.process.send_signal(signal.SIGINT)
    going.process.wait(60)
    lines = [json.loads(line) for line in (folder / "go.firings.jsonl").read_text().splitlines()]
    switches = [(line["armed"], line["by"]) for line in lines if "by" in line]
    person, program = "the command line", "a test"
    assert switches == [(True, person), (False, program), (True, person), (False, person)]
    armed = False
    for line in lines:
        armed = line["armed"] if "by" in line else armed
        assert line["armed"] == armed
        assert line.get("fired", armed) == armed
    with pynwb.NWBHDF5IO(folder.parents[2] / "loop.nwb", "r") as io:
        series = io.read().acquisition["go_armed"]
        assert series.data[:].ravel().tolist() == [0, 1, 0, 1, 0]
    assert "go: armed by the command line" in (folder / "go.log").read_text()
