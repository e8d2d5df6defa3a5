"""Signals, kills, priorities and strangers: a run from outside of its processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from toy_pipelines import echo, result, sink, ticker

from stream.runtime.report import Report, print_report

SCRIPT = """
import signal
import sys
from pathlib import Path
from stream.pipeline import load_pipeline
from stream.runtime.report import write_report
from stream.runtime.supervisor import run_plan

# Whoever started the tests in the background had Ctrl-C ignored, and that is inherited.
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
folder = Path(sys.argv[1])
seen = 0

def say(status):
    if status["state"] == "running" and status["nodes"]["out"]["packets_in"] > 10:
        print("streaming", flush=True)

report = run_plan(load_pipeline(folder / "toys.yaml"), on_status=say, run_dir=folder / "run")
write_report(report, folder / "report.json")
sys.exit(report.exit)
"""


@pytest.fixture
def started(make_plan: Any, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a pipeline under a supervisor of its own, and wait until it streams."""
    processes = []

    def start(*, under: Sequence[str] = (), **nodes: Any) -> subprocess.Popen[str]:
        make_plan(**nodes)
        process = subprocess.Popen(
            [*under, sys.executable, "-c", SCRIPT, str(tmp_path)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "streaming\n"
        return process

    yield start
    # Workers end with their supervisor.
    for process in processes:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def workers_of(process: subprocess.Popen[str]) -> list[Any]:
    psutil = pytest.importorskip("psutil")
    return psutil.Process(process.pid).children(recursive=True)


def sockets_of(process: subprocess.Popen[str]) -> set[str]:
    """Return the names on which a run listens."""
    psutil = pytest.importorskip("psutil")
    listening = (
        connection.laddr.lstrip("@\0")
        for member in (psutil.Process(process.pid), *workers_of(process))
        for connection in member.net_connections(kind="unix")
    )
    return {name for name in listening if name.startswith("innervate-")}


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ctrl_c_ends_a_run_cleanly(
    started: Any, sink_file: Path, tmp_path: Path, signal_name: str
) -> None:
    process = started(src=ticker(count=10**6), mid=echo("src"), out=sink("mid", sink_file))
    process.send_signal(getattr(signal, signal_name))
    assert process.wait(20) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    got = result(sink_file)
    assert got["ended"]
    assert got["got"]["mid"] == list(range(report["nodes"]["src"]["packets_out"]))


def test_a_second_ctrl_c_ends_a_run_at_once(started: Any, sink_file: Path) -> None:
    process = started(src=ticker(count=10**6), out=sink("src", sink_file, delay_s=0.3))
    workers = workers_of(process)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 130
    assert not any(worker.is_running() and worker.status() != "zombie" for worker in workers)


def test_workers_die_with_their_supervisor_and_leave_nothing(started: Any, sink_file: Path) -> None:
    psutil = pytest.importorskip("psutil")
    process = started(
        src=ticker(count=10**6, shape=[200, 200, 3], dtype="uint8", kind="frame"),
        mid=echo("src"),
        out=sink("mid", sink_file),
    )
    workers = workers_of(process)
    assert len(workers) == 3
    names = sockets_of(process)
    assert len(names) == 7
    # Of other programs: JACK servers of other tests leave files with such names.
    before = {path for path in Path("/dev/shm").iterdir() if path.name.startswith("jack")}
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert not any(name in Path("/proc/net/unix").read_text() for name in names)
    assert not set(Path("/dev/shm").glob("*innervate*")) - before


def test_groups_that_ask_for_it_get_real_time_priority_if_the_system_allows_it(
    started: Any, sink_file: Path, tmp_path: Path
) -> None:
    process = started(src=ticker(count=10**6), out=sink("src", sink_file), realtime=["src"])
    policies = {
        name: os.sched_getscheduler(worker.pid)
        for worker in workers_of(process)
        for name in ("src", "out")
        if name in worker.cmdline()
    }
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    report = json.loads((tmp_path / "report.json").read_text())["processes"]
    assert "realtime" not in report["out"]
    assert policies["out"] == os.SCHED_OTHER
    if policies["src"] & os.SCHED_FIFO:
        assert report["src"]["realtime"] == "granted"
    else:
        assert report["src"]["realtime"].startswith("refused: SCHED_FIFO (")


def test_a_run_that_may_not_have_real_time_priority_goes_on_without_and_says_so(
    started: Any, sink_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    under = ["setpriv", "--bounding-set=-sys_nice,-ipc_lock"] if os.geteuid() == 0 else []
    if under and not shutil.which("setpriv"):
        pytest.skip("setpriv is not installed")
    limits = ["prlimit", "--rtprio=0", "--memlock=65536"]
    process = started(
        src=ticker(count=10**6), out=sink("src", sink_file), realtime=["src"],
        under=[*limits, *under],
    )  # fmt: skip
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    report = msgspec.convert(json.loads((tmp_path / "report.json").read_text()), Report)
    said = report.processes["src"]["realtime"]
    assert said == (
        "refused: SCHED_FIFO (Operation not permitted) and locked memory (Cannot allocate memory)"
    )
    print_report(report)
    assert f"'src' ran without real-time priority, {said}" in capsys.readouterr().out
    assert "real-time priority" in (Path(report.run_dir) / "src.log").read_text()


def test_a_node_that_never_stops_at_real_time_priority_is_ended(run: Any, sink_file: Path) -> None:
    report = run(
        realtime=["mid"],
        src=ticker(count=10**6), mid=echo("src", spin_at=7), out=sink("src", sink_file),
    )  # fmt: skip
    assert report.exit == 1
    assert "node 'mid' hung" in report.message
    assert result(sink_file)["ended"]


def test_a_worker_that_is_stopped_is_noticed(started: Any, sink_file: Path, tmp_path: Path) -> None:
    process = started(src=ticker(count=10**6), mid=echo("src"), out=sink("src", sink_file))
    worker = next(w for w in workers_of(process) if "mid" in w.cmdline())
    worker.suspend()
    assert process.wait(20) == 1
    assert "node 'mid' hung" in json.loads((tmp_path / "report.json").read_text())["message"]
    assert result(sink_file)["ended"]


def test_a_strangers_bytes_on_every_socket_of_a_run_change_nothing(
    started: Any, sink_file: Path, tmp_path: Path
) -> None:
    process = started(src=ticker(count=10**6), mid=echo("src"), out=sink("mid", sink_file))
    addresses = {name for name in sockets_of(process) if not name.endswith("status")}
    assert len(addresses) == 6
    with zmq.Context() as context:
        for address in addresses:
            for kind in (zmq.DEALER, zmq.PUSH):
                with context.socket(kind) as stranger:
                    # A run may stop listening to a stranger; what is then left must not hold us.
                    stranger.setsockopt(zmq.LINGER, 2000)
                    stranger.connect(f"ipc://@{address}")
                    stranger.send(b"hello there")
                    stranger.send_multipart([b"src", b"\x81\xa1v\x01", bytes(100)])
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    got = result(sink_file)
    assert got["ended"]
    assert got["got"]["mid"] == list(range(report["nodes"]["src"]["packets_out"]))
    assert all(link["refused"] > 0 for link in report["links"].values())
    assert all(report["nodes"][name]["errors"] > 0 for name in ("mid", "out"))
