"""`innervate top`: watch a run that is going on elsewhere, in this terminal."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stream.errors import ConfigError, RunError
from stream.nodes.run_status import RunStatus, children, clock, latency_table, number
from stream.runtime.run_folders import find_run, read_announcement
from stream.runtime.supervisor import STATUS_S

_PATIENCE_S = 10 * STATUS_S
# Workers report a few times a second, at moments of their own: a short while says no rate.
_RATES_OVER_NS = 2_000_000_000


def top(
    run: Annotated[
        str | None,
        typer.Argument(
            help="Folder of a run, or its pipeline's name; only needed when several are going on.",
            show_default=False,
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Show it once, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --once: print the status as JSON.")
    ] = False,
) -> None:
    """Watch a run that is going on: nodes, rates, latencies and drops."""
    if as_json and not once:
        raise ConfigError("--json prints one status: use it with --once.")
    console = Console()
    folder, announcement = find_run(run)
    status = RunStatus(announcement.status)
    view = RunView(announcement.pipeline)
    try:
        if not status.wait(_PATIENCE_S):
            raise RunError(f"the run in {folder} says nothing; is it stopped?", 1)
        if once:
            # Of a single status nobody could tell how fast packets come.
            view.add(status.newest)
            if as_json:
                console.print_json(json.dumps({"run_dir": str(folder), **status.newest}))
                return
            _wait(status, view, _RATES_OVER_NS / 1e9)
            console.print(view.picture(status))
            return
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                view.add(status.newest)
                live.update(view.picture(status), refresh=True)
                if status.newest.get("state") == "ended":
                    return
                if not status.wait(_PATIENCE_S) and read_announcement(folder) is None:
                    raise RunError(f"the run in {folder} has ended without a word.", 1)
    except KeyboardInterrupt:
        return
    finally:
        status.close()


def _wait(status: RunStatus, view: RunView, duration_s: float) -> None:
    end = time.monotonic() + duration_s
    while time.monotonic() < end and status.newest.get("state") == "running":
        status.wait(STATUS_S)
        view.add(status.newest)


class RunView:
    """Draws the status of a run, with rates over the last two seconds.

    Parameters
    ----------
    pipeline
        Name to show above.
    """

    def __init__(self, pipeline: str) -> None:
        self._pipeline = pipeline
        self._earlier: deque[Mapping[str, Any]] = deque()

    def add(self, status: Mapping[str, Any]) -> None:
        """Take the next status, or the same once more."""
        if self._earlier and self._earlier[-1] is status:
            return
        self._earlier.append(status)
        while len(self._earlier) > 1 and (
            self._earlier[1].get("t_ns", 0) <= status.get("t_ns", 0) - _RATES_OVER_NS
        ):
            self._earlier.popleft()

    def picture(self, status: RunStatus) -> RenderableType:
        """Return the whole view."""
        newest = status.newest
        state, (lost, dropped) = str(newest.get("state", "")), status.losses()
        title = Text(f"{self._pipeline}  {state}  {clock(newest.get('duration_s', 0.0))}  ", "bold")
        title.append(f"lost {lost}", "bold red" if lost else "dim")
        title.append(f"  dropped {dropped}", "dim")
        parts: list[RenderableType] = [title]
        if message := str(newest.get("message", "")):
            parts.append(Text(message, "bold red"))
        parts += [self._nodes(newest), latency_table(status.rows())]
        return Group(*parts)

    def _nodes(self, newest: Mapping[str, Any]) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
        table.add_column("node", no_wrap=True, overflow="crop", ratio=1)
        for name in ("state", "in/s", "out/s", "refused", "gaps", "CPU"):
            table.add_column(name, justify="right", no_wrap=True, overflow="crop")
        before = self._earlier[0]
        seconds = (newest.get("t_ns", 0) - before.get("t_ns", 0)) / 1e9
        then = children(before, "nodes")
        failed = newest.get("failed", {})
        for name, node in children(newest, "nodes").items():
            old = then.get(name, node)

            def rate(key: str, node: Any = node, old: Any = old) -> float:
                return (node.get(key, 0) - old.get(key, 0)) / seconds if seconds > 0 else 0.0

            moving = rate("packets_in") + rate("packets_out") > 0
            state = "dead" if name in failed else "alive" if moving else "quiet"
            armed = node.get("notes", {}).get("armed")
            if state == "alive" and isinstance(armed, bool):
                state = "armed" if armed else "dry"
            table.add_row(
                name, state, f"{rate('packets_in'):.0f}", f"{rate('packets_out'):.0f}",
                str(sum(number(n) for n in node.get("dropped", {}).values())),
                str(number(node.get("gaps"))), f"{rate('cpu_s'):.0%}",
                style={"dead": "bold red", "quiet": "dim"}.get(state),
            )  # fmt: skip
        return table
