import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from stream.errors import RunError
from stream.node import GAVE_NOTHING
from stream.runtime.report import Report, print_report, write_report


def test_the_table_says_where_a_recording_went_and_cuts_no_name(tmp_path: Path) -> None:
    file = tmp_path / "a-recording.nwb"
    file.touch()
    latency = {"p50_us": 1.0, "p99_us": 2.0, "p999_us": 3.0, "max_us": 4.0}
    node = {"packets_in": 1, "packets_out": 0, "gaps": 0, "errors": 0, "cpu_s": 0.1, "dropped": {}}
    link = "a_very_long_name.of_an_output->another_long_name"
    report = Report(
        pipeline="p", exit=0, message="", duration_s=1.0,
        nodes={
            "saved": {**node, "notes": {"file": str(file), "trouble": ""}},
            "sound": {**node, "dropped": {"late": 2}, "notes": {"trouble": "it went away."}},
            "camera": {**node, "notes": {"outages": 2, "away_s": 1.5}},
            "graphs": {**node, "notes": {GAVE_NOTHING: "3 bins came."}},
            "lost": {**node, "notes": {"file": str(tmp_path / "never-written.nwb")}},
        },
        links={link: {**latency, "packets": 1, "dropped": 0, "lost": 0}},
        end_to_end={}, models={}, processes={}, versions={}, machine={}, run_dir="x",
    )  # fmt: skip
    out = io.StringIO()
    print_report(report, Console(file=out, width=60))
    text = out.getvalue()
    assert f"'saved' recorded {file}\n" in text
    assert "never-written" not in text
    assert "'graphs' gave nothing: 3 bins came.\n" in text
    assert "'sound': it went away.\n" in text
    assert "'camera' was cut off 2 time(s), 1.5 s in all\n" in text
    assert "'saved':" not in text, "what is over is not told"
    head, row = (next(x for x in text.splitlines() if x.startswith(y)) for y in ("node", "sound"))
    assert head[row.index("late 2") :].startswith("refused"), "as in `innervate top`"
    assert "…" not in text
    folded = "".join(line.split(" ")[0] for line in text.splitlines())
    assert link in folded
    with pytest.raises(RunError, match="No space left on device; the run itself is over") as full:
        write_report(report, Path("/dev/full"))
    assert full.value.exit_code == 1, "2 would say that nothing was started"


def test_each_process_reports_memory_of_its_own(run: Callable[..., Report]) -> None:
    held = bytearray(200 * 2**20)
    report = run(src={"use": "toy_nodes:Ticker", "count": 20})
    assert len(held) > report.processes["src"]["max_rss_bytes"] > 2**20


def test_of_a_run_that_never_started_no_tables_are_printed(run: Callable[..., Report]) -> None:
    report = run(
        src={"use": "toy_nodes:Ticker"},
        mid={"use": "toy_nodes:Echo", "from": "src", "bad_open": "config"},
    )
    out = io.StringIO()
    print_report(report, Console(file=out, width=60))
    (line,) = out.getvalue().splitlines()
    assert "logs in" in line
