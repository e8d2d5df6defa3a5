"""`innervate run`: start a pipeline and stay until it ends."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from stream.commands.output import check_file
from stream.errors import ConfigError, RunError
from stream.node import CLOSED
from stream.page.adding import add_page, settle_pages
from stream.page.metrics import serving_metrics
from stream.pipeline import load_pipeline
from stream.runtime.report import Report, print_report, write_report
from stream.runtime.run_folders import REPORT
from stream.runtime.supervisor import run_plan
from stream.units import parse_seconds, to_ns


def run(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline file (YAML).")],
    duration: Annotated[
        str | None,
        typer.Option(
            "--for",
            help="Stop after this long, such as '30 s' or 10min. What is due by then still goes all"
            " the way, so a pipeline that cannot keep up takes longer.",
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the report as JSON to this file.")
    ] = None,
    page: Annotated[
        bool, typer.Option("--page", help="Show the run in a browser, at the address it prints.")
    ] = False,
    metrics: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port on this host for Prometheus to read counters."),
    ] = None,
) -> None:
    """Run a pipeline live; Ctrl-C ends it cleanly and prints the report."""
    duration_s = parse_duration(duration)
    check_file("--report", report)
    plan = load_pipeline(pipeline)
    if page:
        plan = add_page(plan)
    plan, addresses = settle_pages(plan)
    closing = ClosingProgress()
    with serving_metrics(metrics) as count:
        # Before anything else draws in this terminal.
        for address in addresses.values():
            typer.echo(f"page: {address}", err=True)

        def show(status: dict[str, Any]) -> None:
            closing.show(status)
            count(status)

        result = run_plan(plan, duration_s=duration_s, on_status=show)
    deliver(result, report)


class ClosingProgress:
    """Says on stderr how far a node has come with closing its file, when that takes long.

    Parameters
    ----------
    after_s, every_s
        Time from the beginning of the closing to the first line, and between two.
    """

    def __init__(self, after_s: float = 3.0, every_s: float = 5.0) -> None:
        self._after_ns, self._every_ns = to_ns(after_s), to_ns(every_s)
        self._due_ns: dict[str, int] = {}

    def show(self, status: dict[str, Any]) -> None:
        """Take what the status socket of a run publishes."""
        now_ns = status["t_ns"]
        for name, node in status["nodes"].items():
            share = node["notes"].get(CLOSED, 1.0)
            if share < 1 and now_ns >= self._due_ns.setdefault(name, now_ns + self._after_ns):
                self._due_ns[name] = now_ns + self._every_ns
                # The terminal may have gone; the file is to be closed all the same.
                with contextlib.suppress(OSError):
                    typer.echo(f"'{name}' is closing its file: {share:.0%} done", err=True)


def deliver(result: Report, path: Path | None) -> None:
    """Print the report of a run, and write it to its folder and to `path`, if there is one.

    Raises
    ------
    RunError
        The run failed; it has the exit code of the run. Or it went well, but the file cannot be
        written.
    """
    # What is printed names the file when it is there; a run whose disk is full is still a run.
    with contextlib.suppress(RunError):
        write_report(result, Path(result.run_dir) / REPORT)
    # The terminal may be what ended the run, and a reader such as `head` may have left; rich would
    # end the process for that, with an exit code that is not the run's.
    with contextlib.suppress(OSError, SystemExit):
        print_report(result)
    message = result.message
    try:
        if path:
            write_report(result, path)
    except RunError as error:
        if not result.exit:
            raise
        message = f"{message}. And {error}"
    if result.exit:
        raise RunError(message, result.exit)


def parse_duration(text: str | None) -> float | None:
    """Read the value of `--for`.

    Raises
    ------
    ConfigError
        It has no unit, or is no duration.
    """
    if text is None:
        return None
    try:
        return parse_seconds(text)
    except ValueError as error:
        raise ConfigError(f"--for: {error}.") from None
