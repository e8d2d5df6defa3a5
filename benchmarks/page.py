"""Whether somebody who watches the page of a run slows its loop: page closed, open, and so on."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks._latencies import FILE
from stream.errors import ConfigError, InnervateError
from stream.page.adding import add_page, settle_pages
from stream.pipeline import load_pipeline
from stream.runtime.report import Report, machine
from stream.runtime.supervisor import run_plan

MODEL = Path(__file__).parents[1] / "models" / "zoo" / "lorenz-stndt.onnx"
PIPELINE = """\
name: watched
realtime: [{realtime}]
nodes:
  neurons: {{use: spikes.simulate, population: lorenz, seed: 2026, session: 1, mean_rate: 20 Hz,
             group: decode}}
  bins:    {{use: spikes.bin, from: neurons, width: 5 ms, group: decode}}
  rates:   {{use: model, from: bins, file: {model}, device: cpu, group: decode}}
  sink:    {{use: "benchmarks._latencies:Latencies", from: rates}}
"""
SETTLE_S = 2.0
# What a browser behind a bad connection gets.
THROTTLE = {
    "offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000,
}  # fmt: skip
HIDE = """() => {
  Object.defineProperty(document, "hidden", { get: () => true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@dataclass
class Found:
    """What was measured while the page was in one condition.

    Attributes
    ----------
    spans
        Begin and end (`time.monotonic_ns`) of each stretch of it.
    cpu_s, wall_s
        CPU time of the page's process, and the time over which it was taken.
    reloads
        How often the page was loaded again.
    """

    spans: list[tuple[int, int]] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    reloads: int = 0


def run(
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the rows here.")] = None,
    seconds: Annotated[float, typer.Option(help="How long each condition lasts in a round.")] = 20,
    rounds: Annotated[int, typer.Option(help="How often all conditions come in turn.")] = 5,
    realtime: Annotated[
        bool, typer.Option(help="Real-time priority for the loop, as one that matters has.")
    ] = True,
) -> dict[str, Any]:
    """Measure a loop (simulated spikes, bins, model, sink) while its page is looked at, or not.

    One run has a page; while it goes on, its page is closed, open, hidden, open over a slow
    connection, and reloaded all the time, in turn. Runs before and after it have none. Delay is
    from the edge of a bin to its rates at the sink, which is a process of its own. The browser is
    a headless Chromium on the same machine, which draws without a graphics card.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise ConfigError("this benchmark needs Chromium: apt-get install chromium.")
    console = Console()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = PIPELINE.format(model=MODEL, realtime="decode, sink" if realtime else "")
        (folder / "watched.yaml").write_text(text)
        without = []
        half_s = seconds * rounds / 2
        with console.status("no page"):
            without.append(_without(folder, "before", half_s))
        found, ages, report = _Watched(folder, chromium, console).measure(seconds, rounds)
        with console.status("no page"):
            without.append(_without(folder, "after", half_s))
    closed = _row("closed", _during(ages, found["closed"].spans), None)
    rows = [_row("none", np.concatenate(without), closed), closed]
    for name, part in found.items():
        row = closed if name == "closed" else _row(name, _during(ages, part.spans), closed)
        row["page_cpu"] = part.cpu_s / part.wall_s
        row["reloads"] = part.reloads
        if row is not closed:
            rows.append(row)
    result = {
        "name": "page",
        "conditions": {
            "seconds": seconds, "rounds": rounds, "units": 96, "bin_ms": 5, "chunk_ms": 1,
            "realtime": report.processes["decode"].get("realtime", "not asked for"),
            "throttle": "400 ms, 50 kB/s", **machine(),
        },
        "rows": rows,
    }  # fmt: skip
    _show(result, console)
    if json_path is not None:
        json_path.write_text(json.dumps(result, indent=1))
    return result


class _Watched:
    """One run with a page, and what happens to the page meanwhile."""

    def __init__(self, folder: Path, chromium: str, console: Console) -> None:
        self._folder = folder
        self._chromium = chromium
        self._console = console
        plan = add_page(load_pipeline(folder / "watched.yaml"))
        self._plan, addresses = settle_pages(plan)
        (self._address,) = addresses.values()
        self._statuses: list[dict[str, Any]] = []
        self._over = False
        self._report: Report | None = None

    def measure(
        self, seconds: float, rounds: int
    ) -> tuple[dict[str, Found], NDArray[np.int64], Report]:
        from playwright.sync_api import sync_playwright

        thread = threading.Thread(target=self._run)
        thread.start()
        found = {name: Found() for name in _CONDITIONS}
        try:
            with sync_playwright() as playwright:
                sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
                browser = playwright.chromium.launch(executable_path=self._chromium, args=sandbox)
                self._wait()
                for number, (name, condition) in itertools.product(
                    range(1, rounds + 1), _CONDITIONS.items()
                ):
                    with (
                        self._console.status(f"round {number} of {rounds}, page {name}"),
                        condition(browser, self._address) as act,
                    ):
                        time.sleep(SETTLE_S)
                        self._stretch(found[name], act, seconds)
                browser.close()
        finally:
            self._over = True
            thread.join()
        assert self._report is not None
        if self._report.exit:
            raise InnervateError(self._report.message)
        return found, np.load(self._folder / "with" / FILE), self._report

    def _run(self) -> None:
        self._report = run_plan(self._plan, on_status=self._status, run_dir=self._folder / "with")

    def _status(self, status: dict[str, Any]) -> bool:
        self._statuses.append(status)
        return self._over

    def _wait(self) -> None:
        while not (self._statuses and self._statuses[-1]["duration_s"] > SETTLE_S):
            if self._report is not None:
                raise InnervateError(self._report.message)
            time.sleep(0.05)

    def _stretch(self, found: Found, act: Callable[[], int], seconds: float) -> None:
        before, begin_ns = self._statuses[-1], time.monotonic_ns()
        end_ns = begin_ns + int(seconds * 1e9)
        while (left_ns := end_ns - time.monotonic_ns()) > 0:
            found.reloads += act()
            time.sleep(min(0.05, left_ns / 1e9))
        after = self._statuses[-1]
        found.spans.append((begin_ns, end_ns))
        found.wall_s += (after["t_ns"] - before["t_ns"]) / 1e9
        found.cpu_s += after["processes"]["page"]["cpu_s"] - before["processes"]["page"]["cpu_s"]


@contextlib.contextmanager
def _closed(browser: Any, address: str) -> Iterator[Callable[[], int]]:
    yield lambda: 0


@contextlib.contextmanager
def _open(browser: Any, address: str) -> Iterator[Callable[[], int]]:
    page = _page(browser, address)
    yield lambda: 0
    page.close()


@contextlib.contextmanager
def _hidden(browser: Any, address: str) -> Iterator[Callable[[], int]]:
    page = _page(browser, address)
    page.evaluate(HIDE)
    yield lambda: 0
    page.close()


@contextlib.contextmanager
def _throttled(browser: Any, address: str) -> Iterator[Callable[[], int]]:
    page = browser.new_page()
    page.context.new_cdp_session(page).send("Network.emulateNetworkConditions", THROTTLE)
    page.goto(address)
    yield lambda: 0
    page.close()


@contextlib.contextmanager
def _reloaded(browser: Any, address: str) -> Iterator[Callable[[], int]]:
    page = _page(browser, address)

    def reload() -> int:
        page.reload()
        page.wait_for_selector('.panel[data-stream="rates"]:visible')
        return 1

    yield reload
    page.close()


_CONDITIONS: dict[str, Callable[[Any, str], Any]] = {
    "closed": _closed, "open": _open, "hidden": _hidden, "throttled": _throttled,
    "reloaded": _reloaded,
}  # fmt: skip


def _page(browser: Any, address: str) -> Any:
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.goto(address)
    page.wait_for_selector('.panel[data-stream="rates"]:visible')
    return page


def _without(folder: Path, name: str, seconds: float) -> NDArray[np.int64]:
    """Return the ages of packets in a run that has no page."""
    plan = load_pipeline(folder / "watched.yaml")
    report = run_plan(plan, duration_s=seconds + SETTLE_S, run_dir=folder / name)
    if report.exit:
        raise InnervateError(report.message)
    seen = np.load(folder / name / FILE)
    ages: NDArray[np.int64] = seen[seen[:, 0] > seen[0, 0] + int(SETTLE_S * 1e9), 1]
    return ages


def _during(seen: NDArray[np.int64], spans: list[tuple[int, int]]) -> NDArray[np.int64]:
    inside = np.zeros(len(seen), bool)
    for begin_ns, end_ns in spans:
        inside |= (seen[:, 0] >= begin_ns) & (seen[:, 0] < end_ns)
    return seen[inside, 1]


def _row(name: str, ages_ns: NDArray[np.int64], closed: dict[str, Any] | None) -> dict[str, Any]:
    p50, p99, p999 = np.percentile(ages_ns, [50, 99, 99.9]) / 1e3
    return {
        "page": name, "bins": len(ages_ns), "p50_us": p50, "p99_us": p99, "p999_us": p999,
        "max_us": float(ages_ns.max()) / 1e3,
        "p99_against_closed": p99 / closed["p99_us"] - 1 if closed else 0.0,
        "page_cpu": 0.0, "reloads": 0,
    }  # fmt: skip


def _show(result: dict[str, Any], console: Console) -> None:
    c = result["conditions"]
    table = Table(title=f"bin edge to rates at the sink; real time: {c['realtime']}", box=None)
    columns = ("p50 us", "p99 us", "p99 change", "p99.9 us", "max us", "bins", "CPU", "reloads")
    table.add_column("page")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in result["rows"]:
        table.add_row(
            row["page"], f"{row['p50_us']:.0f}", f"{row['p99_us']:.0f}",
            f"{row['p99_against_closed']:+.1%}", f"{row['p999_us']:.0f}", f"{row['max_us']:.0f}",
            str(row["bins"]), f"{row['page_cpu']:.0%}", str(row["reloads"]),
        )  # fmt: skip
    console.print(table)
