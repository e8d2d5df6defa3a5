"""Old folders of runs go, unless they hold more than logs or are in use."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stream.plan import Plan
from stream.runtime.run_folders import (
    KEPT,
    Announcement,
    announced,
    read_announcement,
    run_folder,
    running,
)
from stream.runtime.supervisor import run_plan
from stream.runtime.switching import Way


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "state" / "innervate" / "runs"
    folder.mkdir(parents=True)
    return folder


def old(runs: Path, number: int, *files: str) -> Path:
    folder = runs / f"20200101-{number:06}-a.pipeline-{number}"
    folder.mkdir()
    for file in files:
        (folder / file).touch()
    return folder


def test_only_the_newest_folders_stay(runs: Path) -> None:
    folders = [old(runs, i, "decode.log", "report.json") for i in range(KEPT + 5)]
    with run_folder("p") as new:
        assert set(runs.iterdir()) == {*folders[6:], new}


def test_a_folder_with_anything_but_logs_of_the_run_is_kept(runs: Path) -> None:
    recording = old(runs, 0, "saved.log", "p-saved-20200101-000000.nwb")
    cut_off = old(runs, 1, "saved.log", "p-saved-20200101-000000.nwb.log")
    (nested := old(runs, 2)).joinpath("plots.log").mkdir()
    mine = runs / "my notes"
    mine.mkdir()
    (link := runs / "20200101-000003-p-3").symlink_to(old(runs, 4), target_is_directory=True)
    for i in range(KEPT):
        old(runs, 100 + i)
    with run_folder("p"):
        assert {recording, cut_off, nested, mine, link} <= set(runs.iterdir())
        assert {file.name for file in recording.iterdir()} == {
            "saved.log", "p-saved-20200101-000000.nwb",
        }  # fmt: skip


def test_a_folder_in_use_is_kept(runs: Path) -> None:
    in_use = old(runs, 0, "supervisor.log")
    for i in range(1, KEPT + 1):
        old(runs, i)
    with run_folder("other", in_use), run_folder("p"):
        assert (in_use / "supervisor.log").exists()
    with run_folder("p"):
        assert not in_use.exists()


def test_a_run_holds_its_folder_and_removes_old_ones(
    runs: Path, make_plan: Callable[..., Plan]
) -> None:
    first = old(runs, 0, "src.log")
    for i in range(1, KEPT + 1):
        old(runs, i)
    report = run_plan(make_plan(src={"use": "toy_nodes:Ticker", "count": 3}))
    assert Path(report.run_dir).parent == runs
    assert (Path(report.run_dir) / "src.log").exists()
    assert not first.exists()


def test_runs_that_go_on_are_found_and_a_killed_one_is_not_and_can_be_removed(runs: Path) -> None:
    killed = old(runs, 0, "saved.log")
    way = Way("ipc://elsewhere", "a token")
    with run_folder("p") as going, announced(going, "p", "ipc://somewhere", way):
        assert (going / "running.json").stat().st_mode & 0o077 == 0, "it holds the token"
        (killed / "running.json").write_bytes((going / "running.json").read_bytes())
        assert running() == {going: Announcement("p", os.getpid(), "ipc://somewhere", way)}
        assert read_announcement(killed) is None
    assert running() == {}
    assert list(going.iterdir()) == []
    for i in range(1, KEPT + 1):
        old(runs, i)
    with run_folder("p"):
        assert not killed.exists()


@pytest.mark.parametrize("text", ["", "{", '{"pipeline": 1}', "[]", "\x00"])
def test_what_is_no_announcement_is_no_run(runs: Path, text: str) -> None:
    with run_folder("p") as folder:
        (folder / "running.json").write_text(text)
        assert read_announcement(folder) is None
        assert running() == {}
