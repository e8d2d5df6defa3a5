"""Both sources against the double in a process of its own, and the double against its clients."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from innervate_command import innervate
from open_ephys_gui import Spikes

from stream.instruments.open_ephys import broadcaster
from stream.instruments.open_ephys.broadcaster import OpenEphysEvents, OpenEphysEventsSettings
from stream.instruments.open_ephys.interface import OpenEphys, OpenEphysSettings
from stream.spikes.nwb import load_recording

RATE = 30_000
NAMES = tuple(f"Electrode {unit + 1}" for unit in range(6))


def _listen(driven, gui, linked=None, **settings):
    chosen = {"port": gui.port, "units": list(NAMES), **settings}
    return driven(OpenEphys(OpenEphysSettings.model_validate(chosen)), linked=linked)


def _spikes(packets):
    """Sample and name of all spikes in packets."""
    return [(round(t * RATE / 1e9), NAMES[u]) for p in packets for t, u in p.data.tolist()]


def _sent(session_file, packets):
    """What the double has sent of what packets cover."""
    first = round(packets[0].source_ns * RATE / 1e9)
    last = round(packets[-1].source_end_ns * RATE / 1e9)
    sent = Spikes(session_file, RATE, None, False).between(first, last)
    return [(sample, electrode) for sample, electrode, _ in sent]


def test_all_that_the_gui_sends_arrives_once_on_its_clock(driven, gui, session_file):
    run = _listen(driven, gui)
    run.more(50)
    packets = run.of("")
    assert sorted(_spikes(packets)) == sorted(_sent(session_file, packets))
    assert len(_spikes(packets)) > 100
    assert [p.source_ns for p in packets[1:]] == [p.source_end_ns for p in packets[:-1]]
    edges = [p for p in run.of("ttl") if p.data.any()]
    samples = [round(p.source_ns * RATE / 1e9) for p in edges]
    assert (np.diff(samples) == 3000).all()
    assert [int(p.data.argmax()) for p in edges] == [(s // 3000 + 1) % 2 for s in samples]
    blocks = run.of("samples")
    assert [p.source_ns for p in blocks[1:]] == [p.source_end_ns for p in blocks[:-1]]
    assert all(len(p.data) == round((p.source_end_ns - p.source_ns) * RATE / 1e9) for p in blocks)
    # The double's channels are one noise, each further along in it.
    assert np.array_equal(blocks[3].data[:-1, 0], np.roll(blocks[3].data[:, 0], 1)[1:])
    assert {p.segment for p in run.packets} == {0}
    assert run.dropped == {}


def test_the_gui_gets_signs_of_life_and_the_report_the_units_that_were_seen(driven, gui):
    before = gui.do("state")["heartbeats"]
    run = _listen(driven, gui, units=None)
    assert run.notes["units_seen"] == list(NAMES)
    run.until(lambda: run.notes.get("heartbeats_answered", 0) >= 1)
    assert gui.do("state")["heartbeats"] > before


def test_bad_messages_are_counted_and_the_rest_goes_on(driven, gui, caplog):
    run = _listen(driven, gui)
    run.more()
    for kind in ("half", "short", "gigabyte", "json", "text", "alien"):
        gui.do(f"bad {kind}")
    run.until(lambda: run.dropped.get("unreadable", 0) == 6)
    run.more()
    assert run.dropped == {"unreadable": 6}
    assert sum("what is no message" in text for text in caplog.messages) == 1
    assert {p.gap for p in run.packets} == {0}


def test_a_message_too_large_to_be_one_costs_the_connection_and_not_the_run(driven, gui):
    run = _listen(driven, gui)
    run.more()
    gui.do("bad large")
    run.until(lambda: run.notes.get("connections_lost", 0) == 1)
    run.more()
    assert {p.segment for p in run.packets} == {0}
    assert sum(p.gap for p in run.of("")) > 0


def test_a_rate_channels_and_a_clock_that_change_in_mid_run_are_told(driven, gui):
    run = _listen(driven, gui)
    run.more()
    gui.do("channels 6")
    run.until(lambda: run.dropped.get("other_channel", 0) >= 4)
    gui.do("channels 4")
    gui.do("rate 25000")
    run.until(lambda: run.dropped.get("other_rate", 0) >= 4)
    gui.do("rate 30000")
    gui.do("jump 7200")
    run.until(lambda: run.packets[-1].segment == 1)
    gui.do("jump -7200")
    run.until(lambda: run.packets[-1].segment == 2)
    run.more()
    assert run.node.acquisition.segment == 2
    gui.do("stream LFP")
    run.until(lambda: run.dropped.get("other_stream", 0) >= 4)
    gui.do("stream Probe-A")


def test_what_the_network_lost_is_counted(driven, gui):
    run = _listen(driven, gui)
    run.more()
    gui.do("lose 17")
    run.until(lambda: run.dropped.get("lost_messages", 0) > 0)
    run.more()
    assert run.dropped == {"lost_messages": 17}


def test_an_unplugged_cable_is_a_gap_that_is_counted_to_the_sample(driven, gui, session_file):
    run = _listen(driven, gui)
    run.more()
    gui.do("away 1.2")
    run.until(lambda: run.notes.get("outages", 0) == 1)
    run.until(lambda: any(p.gap for p in run.of("samples")))
    assert gui.answer()["answer"] == "back"
    run.more()
    blocks = run.of("samples")
    back = next(i for i, p in enumerate(blocks) if p.gap)
    missing_ns = blocks[back].source_ns - blocks[back - 1].source_end_ns
    run.until(lambda: run.notes["missing_samples"] > 0)
    assert missing_ns / 1e9 > 1
    # A block of which only a part came is missing too, beside what was never sent.
    assert run.notes["missing_samples"] <= round(missing_ns * RATE / 1e9)
    assert run.notes["missing_samples"] > round(missing_ns * RATE / 1e9) - 1400
    assert {p.segment for p in run.packets} == {0}
    spikes = run.of("")
    again = next(i for i, p in enumerate(spikes) if p.gap)
    assert sorted(_spikes(spikes[again + 1 :])) == sorted(_sent(session_file, spikes[again + 1 :]))


def test_a_gui_that_was_killed_and_started_again_begins_a_segment(driven, double):
    gui = double()
    run = _listen(driven, gui)
    run.more()
    gui.stop()
    run.until(lambda: run.notes.get("outages", 0) == 1)
    double(port=gui.port)
    run.until(lambda: run.packets[-1].segment == 1)
    run.more()
    second = [p for p in run.of("") if p.segment == 1]
    assert [p.source_ns for p in second[1:]] == [p.source_end_ns for p in second[:-1]]


def test_the_gui_stops_and_starts_its_acquisition(driven, gui, session_file):
    run = _listen(driven, gui)
    run.more()
    gui.do("restart")
    run.until(lambda: run.packets[-1].segment == 1)
    run.more(20)
    second = [p for p in run.of("") if p.segment == 1]
    assert second[0].source_ns == 0
    assert sorted(_spikes(second)) == sorted(_sent(session_file, second))
    assert run.dropped == {}


@pytest.fixture
def both(gui, raw_gui):
    """Ports of Event Broadcasters: JSON, raw."""
    return gui.port + 4, raw_gui


@pytest.mark.parametrize("raw", [False, True])
def test_events_of_the_broadcaster_are_those_of_the_gui(
    driven, both, session_file, raw, monkeypatch
):
    monkeypatch.setattr(broadcaster, "LOOK_S", 0.5)
    settings = {"port": both[raw], "units": NAMES, "rate": "30 kHz"}
    run = driven(OpenEphysEvents(OpenEphysEventsSettings.model_validate(settings)))
    run.until(lambda: sum(p.data.any() for p in run.of("ttl")) > 3)
    packets = [p for p in run.of("") if len(p.data)]
    # Those of the block in which it began to listen may be among the first.
    packets = packets[3:]
    assert sorted(_spikes(packets)) == sorted(
        s for s in _sent(session_file, packets) if s[0] >= _spikes(packets)[0][0]
    )
    assert len(_spikes(packets)) > 10
    assert "cannot be noticed" in run.notes["losses"]


def test_a_client_that_is_not_ours_reads_the_double_of_the_broadcaster(gui, session_file):
    """The client of Open Ephys for its Event Broadcaster (open-ephys-python-tools)."""
    streaming = pytest.importorskip("open_ephys.streaming")
    spikes, edges = [], []
    enough = threading.Event()

    def on_spike(info):
        spikes.append((info["sample_number"], info["electrode"]))
        if len(spikes) > 60 and len(edges) > 2:
            enough.set()

    listener = streaming.EventListener(port=gui.port + 4)
    thread = threading.Thread(
        target=listener.start,
        kwargs={"ttl_callback": edges.append, "spike_callback": on_spike}, daemon=True,
    )  # fmt: skip
    thread.start()
    assert enough.wait(60)
    listener.stop()
    thread.join(10)
    truth = Spikes(session_file, RATE, None, False)
    sent = truth.between(spikes[0][0], spikes[-1][0] + 1)
    assert set(spikes) == {(sample, electrode) for sample, electrode, _ in sent}
    assert {(e["line"], e["state"]) for e in edges} == {(0, True), (0, False)}
    assert (np.diff([e["sample_number"] for e in edges]) == 3000).all()


def test_a_run_records_a_real_session_from_the_gui_spike_by_spike(tmp_path, double, shared_data):
    """MC_Maze through the double, `openephys` and `record`, in real processes."""
    from stream.spikes.importing import import_files
    from stream.spikes.mapping import load_mapping

    trial = sorted((shared_data / "spikes" / "mc_maze_trials").glob("trial_*.csv"))[:1]
    root = Path(__file__).parents[4]
    mapping = load_mapping(root / "configs" / "import" / "mc_maze_trials.yaml")
    imported = import_files(trial, mapping)
    maze = tmp_path / "maze.npz"
    counts, width_s = imported.recording.counts, imported.recording.width_s
    np.savez(maze, counts=counts, width_s=width_s)
    gui = double(recording=maze)
    units = [f"Electrode {u + 1}" for u in range(len(imported.recording.units))]
    nodes = {
        "probe": {"use": "openephys", "port": gui.port, "units": units, "group": "decode"},
        "saved": {"use": "record", "from": ["probe", "probe.ttl"], "file": "live.nwb"},
    }
    pipeline, report = tmp_path / "p.yaml", tmp_path / "r.json"
    pipeline.write_text(yaml.safe_dump({"name": "maze", "nodes": nodes}))
    done = innervate("run", pipeline, "--for", "2s", "--report", report)
    assert done.returncode == 0, done.stderr
    found = json.loads(report.read_text())
    probe = found["nodes"]["probe"]
    assert (probe["dropped"], probe["notes"]["missing_samples"]) == ({}, 0)
    live = load_recording(tmp_path / "live.nwb")
    assert live.spike_times_s is not None
    got = sorted(
        (round(t * RATE), units[u]) for u, times in enumerate(live.spike_times_s) for t in times
    )
    sent = Spikes(maze, RATE, None, False).between(got[0][0], got[-1][0] + 1)
    assert got == sorted((sample, electrode) for sample, electrode, _ in sent)
    assert len(got) > 300
