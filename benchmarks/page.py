"""Whether somebody who watches the page of a run slows its loop: nobody, page open, and so on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import statistics
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
from benchmarks._paired import paired_change
from benchmarks._results import JsonFile, write_result
from stream.errors import ConfigError, InnervateError
from stream.page.adding import add_page, settle_pages
from stream.pipeline import load_pipeline
from stream.plan import Plan
from stream.runtime.report import Report
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
SETTLE_S = 1.0
GOAL = 0.05
# What a browser behind a bad connection gets.
THROTTLE = {
    "offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 50_000,
}  # fmt: skip
HIDE = """() => {
  Object.defineProperty(document, "hidden", { get: () => true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
NOBODY = "unseen"


@dataclass
class Found:
    """What was measured while the page was in one condition, by rounds.

    Attributes
    ----------
    spans
        Begin and end (`time.monotonic_ns`) of each turn.
    cpu_s, wall_s
        CPU time of the page's process, and the time over which it was taken.
    reloads
        How often the page was loaded again.
    """

    spans: list[tuple[int, int]] = field(default_factory=list)
    cpu_s: float = 0.0
    wall_s: float = 0.0
    reloads: int = 0


class Ages:
    """Ages of the packets of some turns, and what is told of them."""

    def __init__(self, turns: list[NDArray[np.int64]]) -> None:
        self._turns = turns

    def each(self, quantile: float) -> list[float]:
        """Return a quantile of each turn, in us."""
        return [float(np.quantile(turn, quantile)) / 1e3 for turn in self._turns]

    def row(self, page: str) -> dict[str, Any]:
        """Return medians over the turns, and p99 of each."""
        p50, p99 = self.each(0.5), self.each(0.99)
        return {
            "page": page, "turns": len(self._turns), "bins": sum(map(len, self._turns)),
            "p50_us": statistics.median(p50), "p99_us": statistics.median(p99),
            "p99_us_turns": " ".join(f"{value:.0f}" for value in p99),
        }  # fmt: skip


def run(
    json_path: JsonFile = None,
    seconds: Annotated[float, typer.Option(min=1, help="Length of a turn.")] = 4,
    rounds: Annotated[int, typer.Option(min=2, help="How often all conditions come.")] = 12,
    pairs: Annotated[
        int, typer.Option(min=2, help="Runs with a page, each beside one without.")
    ] = 7,
    realtime: Annotated[
        bool, typer.Option(help="Real-time priority for the loop, as one that matters has.")
    ] = True,
) -> dict[str, Any]:
    """Measure a loop (simulated spikes, bins, model, sink) while its page is looked at, or not.

    One run has a page. While it goes on, the page is open, hidden, open over a slow connection,
    reloaded all the time, and not looked at (twice), in turns of a few seconds, in an order drawn
    anew each round. Then runs that have a page, at which nobody looks, alternate with runs that
    have none. A turn has its own p99; each is compared with those of the same round or pair, and
    the interval of the change is by a bootstrap over rounds or pairs.

    Delay is from the edge of a bin to its rates at the sink, which is a process of its own. The
    browser is a headless Chromium on the same machine, which draws without a graphics card.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        raise ConfigError("this benchmark needs Chromium: apt-get install chromium.")
    console = Console()
    order = random.Random(2026)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = PIPELINE.format(model=MODEL, realtime="decode, sink" if realtime else "")
        (folder / "watched.yaml").write_text(text)
        found, seen, report = _Watched(folder, chromium, console).measure(seconds, rounds, order)
        without, with_page = _alternate(folder, console, 2 * seconds, pairs, order)
    nobody = Ages([_during(seen, span) for span in found[NOBODY].spans])
    # Two turns a round, of which the others see the mean.
    twice = np.array(nobody.each(0.99)).reshape(rounds, 2)
    beside = np.exp(np.log(twice).mean(1)).tolist()
    rows = []
    for condition, part in found.items():
        ages = Ages([_during(seen, span) for span in part.spans])
        row = ages.row(condition) | {"against": "", "page_cpu": part.cpu_s / part.wall_s}
        if condition != NOBODY:
            row |= _compared(ages.each(0.99), beside, NOBODY)
        rows.append(row | {"reloads": part.reloads})
    none = "no page"
    rows.append(without.row(none) | {"against": ""})
    rows.append(with_page.row("a page") | _compared(with_page.each(0.99), without.each(0.99), none))
    conditions = {
        "seconds": seconds, "rounds": rounds, "pairs": pairs, "units": 96, "bin_ms": 5,
        "chunk_ms": 1, "realtime": report.processes["decode"].get("realtime", "not asked for"),
        "throttle": "400 ms, 50 kB/s", "load": os.getloadavg()[0],
    }  # fmt: skip
    result = write_result("page", conditions, rows, json_path)
    _show(result, console)
    return result


class _Watched:
    """One run with a page, and what happens to the page meanwhile."""

    def __init__(self, folder: Path, chromium: str, console: Console) -> None:
        self._folder = folder
        self._chromium = chromium
        self._console = console
        self._plan, self._address = _with_page(folder)
        self._statuses: list[dict[str, Any]] = []
        self._over = False
        self._report: Report | None = None

    def measure(
        self, seconds: float, rounds: int, order: random.Random
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
                for number in range(1, rounds + 1):
                    turns = [*_CONDITIONS, NOBODY]
                    for name in order.sample(turns, len(turns)):
                        with (
                            self._console.status(f"round {number} of {rounds}, page: {name}"),
                            _CONDITIONS[name](browser, self._address) as act,
                        ):
                            time.sleep(SETTLE_S)
                            self._turn(found[name], act, seconds)
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
        while not (self._statuses and self._statuses[-1]["duration_s"] > 2 * SETTLE_S):
            if self._report is not None:
                raise InnervateError(self._report.message)
            time.sleep(0.05)

    def _turn(self, found: Found, act: Callable[[], int], seconds: float) -> None:
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
def _nobody(browser: Any, address: str) -> Iterator[Callable[[], int]]:
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
    NOBODY: _nobody, "open": _open, "hidden": _hidden, "throttled": _throttled,
    "reloaded": _reloaded,
}  # fmt: skip


def _page(browser: Any, address: str) -> Any:
    page = browser.new_page(viewport={"width": 1500, "height": 950})
    page.goto(address)
    page.wait_for_selector('.panel[data-stream="rates"]:visible')
    return page


def _with_page(folder: Path) -> tuple[Plan, str]:
    """Return the plan with a page, and the address of the page."""
    plan, addresses = settle_pages(add_page(load_pipeline(folder / "watched.yaml")))
    (address,) = addresses.values()
    return plan, address


def _alternate(
    folder: Path, console: Console, seconds: float, pairs: int, order: random.Random
) -> tuple[Ages, Ages]:
    """Return the ages of packets in runs without a page, and in runs with one."""
    taken: dict[bool, list[NDArray[np.int64]]] = {False: [], True: []}
    for number in range(1, pairs + 1):
        for page in order.sample((False, True), 2):
            plan = _with_page(folder)[0] if page else load_pipeline(folder / "watched.yaml")
            run_dir = folder / f"{page}-{number}"
            with console.status(f"pair {number} of {pairs}, {'a' if page else 'no'} page"):
                report = run_plan(plan, duration_s=seconds + SETTLE_S, run_dir=run_dir)
            if report.exit:
                raise InnervateError(report.message)
            seen = np.load(run_dir / FILE)
            taken[page].append(seen[seen[:, 0] > seen[0, 0] + int(SETTLE_S * 1e9), 1])
    return Ages(taken[False]), Ages(taken[True])


def _during(seen: NDArray[np.int64], span: tuple[int, int]) -> NDArray[np.int64]:
    ages: NDArray[np.int64] = seen[(seen[:, 0] >= span[0]) & (seen[:, 0] < span[1]), 1]
    return ages


def _compared(p99: list[float], beside: list[float], against: str) -> dict[str, Any]:
    change = paired_change(p99, beside)
    return {
        "against": against, "p99_change": change.median, "p99_change_low": change.low,
        "p99_change_high": change.high, "within_goal": change.within(GOAL),
    }  # fmt: skip


def _show(result: dict[str, Any], console: Console) -> None:
    c = result["conditions"]
    title = f"bin edge to rates at the sink; real time: {c['realtime']}; medians over turns"
    table = Table(title=title, box=None)
    table.add_column("page")
    columns = ("p50 us", "p99 us", "p99 change (95 %)", "< 5 %", "CPU", "reloads")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in result["rows"]:
        change = ""
        if row["against"]:
            ends = (row["p99_change"], row["p99_change_low"], row["p99_change_high"])
            change = "{:+.1%} ({:+.1%} to {:+.1%})".format(*ends)
        table.add_row(
            row["page"], f"{row['p50_us']:.0f}", f"{row['p99_us']:.0f}", change,
            row.get("within_goal", ""), f"{row['page_cpu']:.0%}" if "page_cpu" in row else "",
            str(row.get("reloads", "")),
        )  # fmt: skip
    console.print(table)
