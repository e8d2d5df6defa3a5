"""A run watched from outside by `innervate top` and Prometheus, and a page that is added to it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from stream.commands.top import top
from stream.errors import ConfigError
from stream.page.adding import add_page, settle_pages
from stream.page.log_lines import LogLines
from stream.page.metrics import serving_metrics
from stream.pipeline import load_pipeline
from stream.runtime.run_folders import running

prometheus = pytest.importorskip("prometheus_client.parser", reason="needs the extra 'page'")

PIPELINE = """\
name: watched
nodes:
  cells: {use: spikes.simulate, population: lorenz, units: 4}
  bins:  {use: spikes.bin, from: cells, width: 5 ms}
"""
INNERVATE = str(Path(sys.executable).with_name("innervate"))


class Runs:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder), "COLUMNS": "120"}
        self.started: list[subprocess.Popen[str]] = []
        (folder / "p.yaml").write_text(PIPELINE)

    def start(self, *options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [INNERVATE, "run", str(self.folder / "p.yaml"), *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=self.environment,
        )  # fmt: skip
        self.started.append(process)
        return process


def ask(run: str | None = None, *, as_json: bool = False) -> str:
    """Return what `innervate top --once` prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        top(run, once=True, as_json=as_json)
    return out.getvalue()


def status(run: str | None = None) -> dict:
    return json.loads(ask(run, as_json=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    made = Runs(tmp_path_factory.mktemp("runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(made.folder))
        patch.setenv("COLUMNS", "120")
        yield made
    for process in made.started:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def run(runs: Runs, port: int, wait_for: Callable[..., None]) -> subprocess.Popen[str]:
    with pytest.raises(ConfigError, match="no run of this user is going on"):
        ask()
    process = runs.start("--metrics", str(port))
    wait_for(lambda: len(running()) == 1, process)
    wait_for(lambda: status()["duration_s"] > 0, process)
    return process


def scrape(port: int) -> dict[str, dict[tuple[str, ...], float]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        family.name: {tuple(s.labels.values()): s.value for s in family.samples}
        for family in prometheus.text_string_to_metric_families(text)
    }


def test_top_tells_once_how_a_run_goes(runs, run) -> None:
    text = ask()
    assert re.match(r"watched  running  0:00:\d\d  lost 0  dropped 0", text)
    assert re.search(r"bins +alive +\d+ +\d+ +0 +0 +\d+%", text)
    assert re.search(r"cells->bins +\d+\.\d\d +\d+\.\d\d +0 +0", text)
    found = status()
    assert (found["pipeline"], found["state"], found["failed"]) == ("watched", "running", {})
    assert status(found["run_dir"])["pipeline"] == "watched"
    assert status("watched")["run_dir"] == found["run_dir"]


def test_prometheus_reads_counters_and_latencies(run, port, wait_for) -> None:
    before = scrape(port)
    wait_for(
        lambda: (
            scrape(port)["innervate_node_packets_out"][("bins",)]
            > before["innervate_node_packets_out"][("bins",)]
        )
    )
    found = scrape(port)
    assert found["innervate_run_state"][("running",)] == 1
    assert found["innervate_node_failed"] == {("bins",): 0, ("cells",): 0}
    assert found["innervate_link_packets"][("cells->bins",)] > 0
    assert 0 < found["innervate_link_latency_seconds"][("cells->bins", "0.99")] < 60
    assert ("bins", "0.5", "cells") in found["innervate_end_to_end_latency_seconds"]
    assert found["innervate_link_lost"][("cells->bins",)] == 0


def test_of_several_runs_one_is_to_be_named_and_is_watched_to_its_end(runs, run, wait_for) -> None:
    first = status()["run_dir"]
    second = runs.start()
    wait_for(lambda: len(running()) == 2, second)
    with pytest.raises(ConfigError, match="several runs are going on") as refused:
        ask()
    (other,) = set(re.findall(r"watched: (\S+)", str(refused.value))) - {first}
    with pytest.raises(ConfigError, match="no run 'unknown' is going on; there are:"):
        ask("unknown")
    primary, secondary = pty.openpty()
    live = subprocess.Popen(
        [INNERVATE, "top", other], stdout=secondary, stderr=secondary, stdin=secondary,
        env={**runs.environment, "TERM": "xterm"},
    )  # fmt: skip
    os.close(secondary)
    seen, told = b"", False
    while select.select([primary], [], [], 60)[0]:
        try:
            seen += os.read(primary, 65536)
        except OSError:
            break
        if b"running" in seen and not told:
            told = True
            second.send_signal(signal.SIGINT)
    os.close(primary)
    assert live.wait(60) == 0
    assert second.wait(60) == 0
    assert seen.count(b"watched") > 1
    assert b"ended" in seen
    assert status()["run_dir"] == first


def test_a_taken_port_for_metrics_stops_the_run_before_it_starts(run, port) -> None:
    with (
        pytest.raises(ConfigError, match=f"--metrics: port {port} cannot be used"),
        serving_metrics(port),
    ):
        pass


def test_a_page_is_linked_to_all_that_can_be_shown_and_slows_nobody(runs) -> None:
    plan = add_page(load_pipeline(runs.folder / "p.yaml"))
    page = plan.nodes["page"]
    depths = {link.stream: link.delivery.depth for link in page.inputs}
    assert depths == {"cells": 256, "cells.true_rates": 64, "cells.latents": 64, "bins": 256}
    assert {link.delivery.policy for link in page.inputs} == {"queue"}
    assert plan.groups["page"] == ("page",)
    assert add_page(plan) is plan
    settled, addresses = settle_pages(plan)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", addresses["page"])
    assert settled.nodes["page"].settings["token"] == addresses["page"].split("/")[3]


def test_of_large_arrays_only_the_newest_goes_to_the_page(tmp_path) -> None:
    cv2 = pytest.importorskip("cv2", reason="needs the extra 'vision'")
    writer = cv2.VideoWriter(
        str(tmp_path / "a.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (320, 240)
    )
    writer.write(np.zeros((240, 320, 3), np.uint8))
    writer.release()
    (tmp_path / "p.yaml").write_text("nodes:\n  film: {use: video, file: a.avi}\n")
    (link,) = add_page(load_pipeline(tmp_path / "p.yaml")).nodes["page"].inputs
    assert (link.stream, link.delivery.policy) == ("film", "latest")


def test_samples_that_nobody_else_takes_are_left_alone(tmp_path) -> None:
    intan = "nodes:\n  probe: {use: intan, channels: [A-000..A-127], band: wide}\n"
    path = tmp_path / "p.yaml"
    for text, streams in (
        ("", {"probe": 256}),
        ("  spikes: {use: spikes.detect, from: probe.samples}\n",
         {"probe": 256, "probe.samples": 64, "spikes": 256}),
    ):  # fmt: skip
        path.write_text(intan + text)
        links = add_page(load_pipeline(path)).nodes["page"].inputs
        assert {link.stream: link.delivery.depth for link in links} == streams


def test_a_page_in_the_pipeline_file_is_checked_with_it(tmp_path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        PIPELINE.partition("  sink")[0] + "  view: {use: page, from: bins, port: 99999}\n"
    )
    with pytest.raises(ConfigError, match="node 'view', key 'port'"):
        load_pipeline(path)


def test_log_lines_are_followed_whole_and_of_a_flood_the_newest_are_shown(tmp_path) -> None:
    log = LogLines(tmp_path)
    file = tmp_path / "decode.log"
    file.write_text("one\ntw")
    assert log.take() == [("decode", "one")]
    with file.open("a") as more:
        more.write("o\n\nthree\n")
    assert log.take() == [("decode", "two"), ("decode", "three")]
    assert log.take() == []
    with file.open("a") as more:
        more.writelines(f"line {i}\n" for i in range(20_000))
    lines = log.take()
    assert len(lines) == 200
    assert lines[-1] == ("decode", "line 19999")
    assert log.skipped > 0
