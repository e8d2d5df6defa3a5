"""Packets get through a run, and whatever a node does ends it in order."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_pipelines import echo, result, sink, ticker

from stream.runtime.process import Limits
from stream.runtime.report import Report, print_report, write_report

Run = Callable[..., Report]
MS = 1_000_000


def test_every_packet_gets_through_three_processes_in_order(run: Run, sink_file: Path) -> None:
    report = run(src=ticker(count=300), mid=echo("src"), out=sink(["src", "mid"], sink_file))
    assert (report.exit, report.message) == (0, "")
    got = result(sink_file)
    assert got == {
        "got": {"src": list(range(300)), "mid": list(range(300))}, "ended": True, "wrong": 0
    }  # fmt: skip
    assert report.nodes["out"]["packets_in"] == 600
    assert report.links["mid->out"]["packets"] == 300
    assert {link["dropped"] + link["lost"] for link in report.links.values()} == {0}
    assert report.end_to_end["src->out"]["max_us"] > 0


def test_the_report_has_the_keys_that_scripts_rely_on(
    run: Run, sink_file: Path, tmp_path: Path
) -> None:
    report = run(src=ticker(count=20), out=sink("src", sink_file))
    write_report(report, tmp_path / "r.json")
    print_report(report)
    read = json.loads((tmp_path / "r.json").read_text())
    assert set(read) >= {
        "pipeline", "exit", "duration_s", "nodes", "links", "end_to_end", "models", "versions",
        "machine",
    }  # fmt: skip
    assert set(read["nodes"]["out"]) >= {
        "packets_in", "packets_out", "dropped", "gaps", "errors", "restarts", "cpu_s"
    }  # fmt: skip
    latency = {"p50_us", "p99_us", "p999_us", "max_us"}
    assert set(read["links"]["src->out"]) >= {*latency, "packets", "dropped"}
    assert set(read["end_to_end"]["src->out"]) >= {*latency, "deadlines_missed"}


def test_nodes_of_a_group_share_a_process(run: Run, sink_file: Path) -> None:
    report = run(
        src=ticker(count=50, group="one"),
        mid=echo("src", group="one"),
        out=sink(["src", "mid"], sink_file, group="one"),
    )
    assert report.exit == 0
    assert list(report.processes) == ["one"]
    assert result(sink_file)["got"] == {"src": list(range(50)), "mid": list(range(50))}


def test_a_source_is_told_whether_anything_else_is_waited_for_in_its_process(
    run: Run, sink_file: Path
) -> None:
    report = run(
        lone=ticker(count=20, group="one"),
        heard=sink("lone", sink_file, group="one"),
        first=ticker(count=20, group="two"),
        second=ticker(count=20, group="two"),
        third=ticker(count=20, group="three"),
        listener=echo("first", group="three"),
    )
    assert report.exit == 0
    alone = {name: report.nodes[name]["notes"]["alone"] for name in ("lone", "first", "third")}
    assert alone == {"lone": True, "first": False, "third": False}


def test_a_process_that_only_gathers_is_not_woken_for_each_packet(run: Run) -> None:
    gatherer = {"use": "toy_nodes:Gatherer", "from": {"stream": "src", "deliver": "queue 1000"}}
    report = run(src=ticker(count=500, period_ns=MS), view=gatherer)
    assert report.exit == 0
    view = report.nodes["view"]
    assert view["packets_in"] == 500
    assert view["notes"]["slept"] < 100
    assert view["notes"]["policy"] == os.SCHED_BATCH


def test_a_process_gives_way_to_others_when_none_of_its_nodes_is_in_a_hurry(run: Run) -> None:
    patient = {"use": "toy_nodes:Patient", "from": "src"}
    report = run(
        src=ticker(count=5),
        alone=patient,
        beside=patient | {"group": "shared"},
        hurried=echo("src", group="shared"),
    )
    assert report.exit == 0
    assert [report.nodes[name]["notes"]["lower"] for name in ("alone", "beside")] == [5, 0]


def test_a_duration_ends_the_run_with_all_that_was_due_up_to_its_end(
    run: Run, sink_file: Path
) -> None:
    report = run(
        duration_s=0.5, src=ticker(count=10**6, period_ns=2 * MS), out=sink("src", sink_file)
    )
    assert report.exit == 0
    assert result(sink_file) == {"got": {"src": list(range(251))}, "ended": True, "wrong": 0}


def test_a_duration_ends_a_run_at_full_speed_too(run: Run, sink_file: Path) -> None:
    report = run(
        duration_s=0.3,
        src={"use": "spikes.simulate", "population": "lorenz", "units": 2, "speed": "max"},
        out=sink("src.true_rates", sink_file),
    )
    assert report.exit == 0
    assert result(sink_file)["ended"]


def test_a_source_as_fast_as_possible_loses_nothing_and_starves_nothing(
    run: Run, sink_file: Path
) -> None:
    states = []
    report = run(
        duration_s=1.5,
        on_status=lambda status: states.append(status["nodes"]["out"]["packets_in"]),
        src=ticker(count=10**9, asap=True),
        mid=echo("src"),
        out=sink("mid", sink_file),
    )
    assert report.exit == 0
    numbers = result(sink_file)["got"]["mid"]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) == report.nodes["src"]["packets_out"] > 1000
    assert any(0 < seen < len(numbers) for seen in states)


def test_a_slow_receiver_holds_a_lossless_stream_up_and_gets_all_of_it(
    run: Run, sink_file: Path
) -> None:
    report = run(src=ticker(count=700, asap=True), out=sink("src", sink_file, first_delay_s=0.5))
    assert report.exit == 0
    assert result(sink_file)["got"]["src"] == list(range(700))


@pytest.mark.parametrize("deliver", ["latest", "queue 5"])
def test_a_slow_receiver_gets_the_newest_and_the_rest_is_counted(
    run: Run, sink_file: Path, deliver: str
) -> None:
    report = run(
        src=ticker(count=300),
        fast=echo("src"),
        out=sink({"stream": "src", "deliver": deliver}, sink_file, first_delay_s=0.6),
    )
    assert report.exit == 0
    got = result(sink_file)["got"]["src"]
    link = report.links["src->out"]
    assert got[0] == 0
    newest = 1 if deliver == "latest" else 5
    assert got[-newest:] == list(range(300 - newest, 300))
    assert len(got) == link["packets"] <= 2 + 2 * newest
    assert link["packets"] + link["dropped"] == 300
    assert link["lost"] == report.nodes["out"]["gaps"] == 0
    assert report.nodes["fast"]["packets_in"] == 300


def test_packets_over_their_age_are_dropped_and_counted(run: Run, sink_file: Path) -> None:
    report = run(
        src=ticker(count=100),
        out=sink({"stream": "src", "max_age": "200 ms"}, sink_file, first_delay_s=0.5),
    )
    got = result(sink_file)["got"]["src"]
    assert 1 <= len(got) < 100
    assert report.links["src->out"]["dropped"] == 100 - len(got)


@pytest.mark.parametrize("deliver", ["lossless", "latest", "queue 3"])
def test_large_frames_arrive_whole_and_stay_whole_while_they_are_read(
    run: Run, sink_file: Path, deliver: str
) -> None:
    report = run(
        src=ticker(count=60, period_ns=5 * MS, shape=[300, 400, 3], dtype="uint8", kind="frame"),
        mid=echo({"stream": "src", "deliver": "lossless"}),
        out=sink(
            [{"stream": name, "deliver": deliver} for name in ("src", "mid")],
            sink_file, delay_s=0.004, hold=12,
        ),
    )  # fmt: skip
    assert report.exit == 0
    got = result(sink_file)
    assert got["wrong"] == 0
    assert got["ended"]
    if deliver == "lossless":
        assert got["got"] == {"src": list(range(60)), "mid": list(range(60))}


def test_no_packet_is_lost_while_a_node_takes_long_to_open(run: Run, sink_file: Path) -> None:
    report = run(
        src=ticker(count=20, asap=True),
        mid=echo({"stream": "src", "deliver": "queue 50"}, slow_open_s=1.2),
        out=sink("mid", sink_file),
    )
    assert report.exit == 0
    assert result(sink_file)["got"]["mid"] == list(range(20))


def test_a_node_that_raises_ends_the_run_and_the_others_close_their_files(
    run: Run, sink_file: Path
) -> None:
    report = run(
        src=ticker(count=10**6), mid=echo("src", fail_at=7), out=sink(["src", "mid"], sink_file)
    )
    assert report.exit == 1
    assert "node 'mid' (toy_nodes:Echo) failed: ValueError: seven is not a number" in report.message
    assert "Traceback" not in report.message
    assert "Traceback" in (Path(report.run_dir) / "mid.log").read_text()
    assert report.nodes["mid"]["errors"] == 1
    got = result(sink_file)
    assert got["ended"]
    assert got["got"]["mid"] == list(range(7))


def test_a_source_that_raises_when_asked_what_is_due_is_named(run: Run, sink_file: Path) -> None:
    report = run(src=ticker(count=10**6, bad_due_at=5), out=sink("src", sink_file))
    assert report.exit == 1
    assert "node 'src' (toy_nodes:Ticker) failed: RuntimeError: no more to read" in report.message
    assert result(sink_file) == {"got": {"src": list(range(5))}, "ended": True, "wrong": 0}


def test_a_node_that_raises_in_a_group_leaves_the_others_of_the_group_to_finish(
    run: Run, sink_file: Path
) -> None:
    report = run(
        src=ticker(count=10**6, group="one"),
        mid=echo("src", fail_at=7, group="one"),
        out=sink(["src", "mid"], sink_file, group="one"),
    )
    assert report.exit == 1
    assert "'mid'" in report.message
    assert result(sink_file)["ended"]


def test_a_process_that_is_killed_is_named_and_the_others_close_their_files(
    run: Run, sink_file: Path
) -> None:
    report = run(
        src=ticker(count=10**6), mid=echo("src", die_at=7), out=sink(["src", "mid"], sink_file)
    )
    assert report.exit == 1
    assert "node 'mid' was killed by SIGKILL" in report.message
    got = result(sink_file)
    assert got["ended"]
    # What the killed process had not yet handed to the system went with it; the rest is whole.
    arrived = got["got"].get("mid", [])
    assert arrived == list(range(7))[: len(arrived)]


def test_a_node_that_hangs_is_named_and_the_others_close_their_files(
    run: Run, sink_file: Path
) -> None:
    report = run(
        src=ticker(count=10**6, group="one"),
        mid=echo("src", hang_at=7, group="one"),
        out=sink("mid", sink_file),
    )
    assert report.exit == 1
    assert "node 'mid' hung" in report.message
    assert (
        "time.sleep" in (Path(report.run_dir) / "one.log").read_text()
        or "process" in (Path(report.run_dir) / "one.log").read_text()
    )
    got = result(sink_file)
    assert got["ended"]
    assert got["got"]["mid"] == list(range(7))


def test_an_array_that_was_not_announced_ends_the_node_that_emitted_it(
    run: Run, sink_file: Path
) -> None:
    report = run(
        src=ticker(count=10**6), mid=echo("src", wrong_shape_at=3), out=sink("mid", sink_file)
    )
    assert report.exit == 1
    assert "node 'mid'" in report.message
    assert "counts of float64 with shape (3,)" in report.message


@pytest.mark.parametrize("bad_open", ["config", "bug"])
def test_a_node_that_cannot_open_stops_all_before_anything_streams(
    run: Run, sink_file: Path, bad_open: str
) -> None:
    report = run(
        src=ticker(count=100), mid=echo("src", bad_open=bad_open), out=sink("mid", sink_file)
    )
    assert report.exit == 2
    assert "node 'mid'" in report.message
    assert "the file is missing" in report.message or "RuntimeError: broken" in report.message
    assert report.nodes["src"]["packets_out"] == 0


def test_a_node_that_never_gets_ready_is_named(run: Run, sink_file: Path) -> None:
    report = run(
        limits=Limits(ready_s=10.0),
        src=ticker(count=100),
        mid=echo("src", slow_open_s=1000.0),
        out=sink("mid", sink_file),
    )
    assert report.exit == 1
    assert "node 'mid' was not ready after" in report.message


def test_a_node_that_cannot_open_does_not_wait_for_one_that_takes_long(
    run: Run, sink_file: Path
) -> None:
    report = run(
        src=ticker(count=100),
        mid=echo("src", slow_open_s=1000.0),
        bad=echo("src", bad_open="config"),
        out=sink("mid", sink_file),
    )
    assert report.exit == 2
    assert "'bad'" in report.message


def test_a_run_that_is_ended_before_it_has_started_does_not_count_as_one(
    run: Run, sink_file: Path
) -> None:
    report = run(
        on_status=lambda status: status["state"] == "starting",
        src=ticker(count=100), mid=echo("src", slow_open_s=1000.0), out=sink("mid", sink_file),
    )  # fmt: skip
    assert report.exit == 130
    assert "interrupted before it had started" in report.message
    assert report.nodes["src"]["packets_out"] == 0


def test_a_sink_may_take_its_time_to_close_its_file(run: Run, sink_file: Path) -> None:
    report = run(src=ticker(count=20), out=sink("src", sink_file, close_s=1.5))
    assert (report.exit, report.message) == (0, "")
    assert result(sink_file)["ended"]
