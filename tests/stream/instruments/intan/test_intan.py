from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from stream.errors import ConfigError
from stream.instruments.intan.source import Intan, IntanSettings
from tests.peers.recorded_spikes import RecordedSpikes, every, maze
from tests.peers.rhx_double import RhxDouble
from tests.stream.instruments.served import Served


@pytest.fixture
def double() -> Iterator[Callable[..., RhxDouble]]:
    started = []

    def start(spikes: RecordedSpikes, **settings) -> RhxDouble:
        started.append(RhxDouble(spikes, **settings).start())
        return started[-1]

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def played(tmp_path) -> Iterator[Callable[..., Served]]:
    opened = []

    def make(double: RhxDouble, **settings) -> Served:
        given = {"channels": double.channels, "port": double.ports[0], **settings}
        opened.append(Served(Intan(IntanSettings.model_validate(given)), tmp_path))
        return opened[-1]

    yield make
    for one in opened:
        one.source.close()


def test_every_spike_of_a_recording_arrives_once_through_sockets_that_cut_anywhere(
    double, played, shared_data
) -> None:
    trial = maze(shared_data / "spikes" / "mc_maze_trials" / "trial_748_data.csv")
    rhx = double(trial, pieces=True)
    got = played(rhx).open().seconds(1.0)
    rhx.press_run(False)
    first_ns = got.of("")[0].source_ns
    sent = [(round(sample * 1e9 / 30_000), unit) for sample, unit in rhx.sent]
    sent = sorted(spike for spike in sent if spike[0] >= first_ns)
    got.until(lambda: len(got.spikes()) >= len(sent))
    assert sorted(map(tuple, got.spikes().tolist())) == sent
    assert len(sent) > 300
    for a, b in itertools.pairwise(got.of("")):
        assert (b.source_ns, b.segment) == (a.source_end_ns, 0)
    assert got.counters.dropped == {}


def test_rhx_is_told_in_its_own_words_what_to_send(double, played) -> None:
    rhx = double(every(0.01, 100))
    played(rhx, channels=["A-000..A-099"], band="high").open()
    said = [c.lower() for c in rhx.log]
    assert said.index("execute clearalldataoutputs") < said.index("set runmode run")
    assert sum(c.endswith(".tcpdataoutputenabledspike true") for c in said) == 100
    assert sum(c.endswith(".tcpdataoutputenabledhigh true") for c in said) == 100
    assert rhx.blocks_per_write == 1


def test_time_goes_on_while_nobody_spikes(double, played) -> None:
    nothing = RecordedSpikes(np.empty(0), np.empty(0, np.int64), 2, 1.0)
    got = played(double(nothing)).open().seconds(0.2)
    assert len(got.spikes()) == 0
    assert all(0 < p.source_end_ns - p.source_ns < 0.1e9 for p in got.of(""))


def test_waveforms_come_as_microvolts_in_the_order_of_the_settings(double, played) -> None:
    rhx = double(every(0.01, 3))
    got = played(rhx, channels=["A-002", "A-000"], band="wide").open()
    got.until(lambda: len(got.of("samples")) >= 5)
    spec = got.source.outputs({})["samples"]
    assert (spec.names, spec.unit) == (("A-002", "A-000"), "uV")
    packet = got.of("samples")[3]
    first = round(packet.source_ns * 3 / 100_000)
    at = np.arange(first, first + 128) % 100
    assert packet.data.dtype == np.float32
    assert packet.data[:, 0] == pytest.approx(0.195 * (at + 2), abs=1e-3)
    assert packet.data[:, 1] == pytest.approx(0.195 * at, abs=1e-3)
    # Spikes are named by the settings' order too.
    assert set(got.spikes()[:, 1].tolist()) <= {0, 1}


def test_rhx_that_is_stopped_and_started_begins_a_segment(double, played) -> None:
    rhx = double(every(0.005, 4))
    got = played(rhx, start=False).open()
    assert "set runmode run" not in rhx.log
    rhx.press_run(True)
    got.seconds(0.1)
    rhx.press_run(False)
    rhx.press_run(True)
    got.until(lambda: bool(got.of("")) and got.of("")[-1].segment == 1)
    assert got.of("")[-1].source_ns < 0.1e9


def test_rhx_that_quits_and_comes_back_is_found_and_set_up_again(double, played) -> None:
    rhx = double(every(0.005, 4))
    got = played(rhx).open().seconds(0.1)
    for number in (1, 2):
        rhx.stop()
        got.until(lambda n=number: got.source.reader.outages == n)
        rhx.start()
        got.until(lambda n=number: got.packets[-1].segment == n)
    segments = [p.segment for p in got.of("")]
    assert segments == sorted(segments)
    assert len(got.spikes(segment=2)) > 0
    assert got.counters.notes["outages"] == 2


def test_garbage_is_skipped_and_counted_and_missing_blocks_are_a_gap(double, played) -> None:
    rhx = double(every(0.002, 4))
    got = played(rhx).open().seconds(0.05)
    rhx.garbage = b"\x00garbage" * 5
    got.until(lambda: "skipped_bytes" in got.counters.dropped)
    rhx.skip_blocks = 7
    got.until(lambda: "missing_blocks" in got.counters.dropped)
    assert got.counters.dropped == {"skipped_bytes": 40, "missing_blocks": 7}
    got.seconds(got.covered_s() + 0.02)
    assert sum(p.gap for p in got.of("")) == 7
    holes = [b.source_ns - a.source_end_ns for a, b in itertools.pairwise(got.of(""))]
    assert max(holes) == pytest.approx(7 * 128 * 1e9 / 30_000, abs=2)
    assert sum(hole > 0 for hole in holes) == 1
    assert {p.segment for p in got.of("")} == {0}


def test_time_stamps_go_on_over_the_end_of_32_bits(double, played) -> None:
    rhx = double(every(0.002, 4), first=2**32 - 30_000)
    got = played(rhx).open().seconds(1.1)
    assert {p.segment for p in got.of("")} == {0}
    assert got.of("")[0].source_ns < 2**32 * 1e9 / 30_000 < got.of("")[-1].source_end_ns


@pytest.mark.parametrize(
    ("settings", "rate_hz", "message"),
    [
        ({"channels": ["C-000"]}, 30_000, "says: Unrecognized parameter"),
        ({}, 20_000, "samples at 20000 Hz, the pipeline says 30000 Hz"),
    ],
)
def test_what_rhx_refuses_is_said_before_the_run(
    double, played, settings, rate_hz, message
) -> None:
    rhx = double(every(0.01, 2), rate_hz=rate_hz)
    with pytest.raises(ConfigError, match=message):
        played(rhx, **settings).open()


def test_rhx_that_runs_already_is_left_alone(double, played) -> None:
    rhx = double(every(0.01, 2))
    rhx.press_run(True)
    with pytest.raises(ConfigError, match="runs already"):
        played(rhx).open()
    assert not any(command.startswith("set") for command in rhx.log)


def test_a_port_where_nothing_or_nobody_we_know_answers_is_an_error_that_helps(
    double, played, monkeypatch
) -> None:
    monkeypatch.setattr("stream.instruments.intan.rhx.TIMEOUT_S", 0.2)
    rhx = double(every(0.01, 2))
    rhx.silent = True
    with pytest.raises(ConfigError, match="does not answer"):
        played(rhx).open()
    with pytest.raises(ConfigError, match="Remote TCP Control"):
        played(rhx, port=1).open()


@pytest.mark.parametrize("names", [[], ["A-1"], ["A-000..A-003", "a-002"], ["A-005..A-001"]])
def test_names_that_are_none_are_refused(names) -> None:
    with pytest.raises(ValueError, match=r"A-0|at least one|no native name|named twice|no range"):
        IntanSettings(channels=names)


def test_unit_names_follow_the_channels_and_their_sorted_ids() -> None:
    plain = Intan(IntanSettings(channels=["A-000..A-002"])).outputs({})[""]
    assert plain.names == ("A-000", "A-001", "A-002")
    split = Intan(IntanSettings(channels="a-010", sorted=True)).outputs({})[""]
    assert split.names == tuple(f"A-010.{n}" for n in range(5))


def test_nothing_is_left_running_after_close(double, played) -> None:
    rhx = double(every(0.01, 2))
    got = played(rhx).open().seconds(0.02)
    got.source.close()
    assert rhx.log[-2:] == ["set runmode stop", "get runmode"]
    assert not any(thread.name == "reader" for thread in threading.enumerate())
