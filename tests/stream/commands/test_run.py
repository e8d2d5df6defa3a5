"""What `innervate run` says beside the report."""

import json
from pathlib import Path

import pytest
from innervate_command import innervate

from stream.commands.run import ClosingProgress


def test_a_file_that_takes_long_to_close_says_now_and_then_how_far_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = ClosingProgress(after_s=3, every_s=5)
    for second in range(14):
        closed = {} if second < 2 else {"closed": min(1.0, (second - 2) / 10)}
        at_once = {"closed": 0.5 if second == 4 else 1.0}
        nodes = {"saved": {"notes": closed}, "quick": {"notes": at_once}, "bins": {"notes": {}}}
        progress.show({"t_ns": second * 10**9, "nodes": nodes})
    assert capsys.readouterr().err.splitlines() == [
        "'saved' is closing its file: 30% done",
        "'saved' is closing its file: 80% done",
    ]


def test_a_recording_that_has_closed_its_file_is_noted_as_closed(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "nodes:\n"
        "  cells: {use: spikes.simulate, population: lorenz, units: 4, duration: 0.2 s}\n"
        "  saved: {use: record, from: cells, file: s.nwb}\n"
    )
    report = tmp_path / "r.json"
    done = innervate("run", tmp_path / "p.yaml", "--report", report, XDG_STATE_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    notes = json.loads(report.read_text())["nodes"]["saved"]["notes"]
    assert notes["closed"] == 1.0
    assert (tmp_path / "s.nwb").exists()
