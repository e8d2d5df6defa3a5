"""What several test files share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from innervate_command import Said

from stream.commands import main
from stream.stability.measuring import Effort
from stream.vision.layouts import KINECT_20
from stream.vision.skeleton_files import SkeletonClip, save_clip

# Whoever started the tests in the background had Ctrl-C ignored, and what they start inherits that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_REAL = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _stability_measured_in_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let exports measure stability briefly; that it is measured well is tested by itself."""
    brief = Effort(sequences=2, steps=10, warm_up=6)
    monkeypatch.setattr("exporters.stability.EFFORT", brief)
    monkeypatch.setattr("exporters.stability.OF_PICTURES", brief)


@pytest.fixture
def innervate_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Return what runs a command in this process, through the same `main` as the installed one."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["innervate", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def do_without() -> Callable[[str], NoReturn]:
    """Skip for what a user's machine may lack; in CI fail, which has to have it."""

    def skip_or_fail(reason: str) -> NoReturn:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return skip_or_fail


@pytest.fixture(scope="session")
def shared_data(do_without: Callable[[str], NoReturn]) -> Path:
    """Return the folder of real recordings beside the checkout; without it skip, in CI fail."""
    if not _REAL.is_dir():
        do_without(f"needs the real recordings, which are not in {_REAL}")
    return _REAL


def _write_clips(folder: Path, each: int) -> Path:
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    body = random.standard_normal((20, 3)) * 0.3 + [0, 1, 3]
    t = np.linspace(0, np.pi, 20)
    for movement, joint in (("wave", "right_hand"), ("kick", "left_foot"), ("bend", "head")):
        for number in range(each):
            joints = np.repeat(body[None], 20, 0)
            joints[:, KINECT_20.index(joint), 1] += 0.6 * np.sin(t)
            joints += 0.003 * random.standard_normal(joints.shape)
            name = f"{movement}-{number:02}"
            clip = SkeletonClip(name, joints.astype(np.float32), KINECT_20, np.arange(20) / 20)
            save_clip(clip, folder / f"{name}.npz")
    return folder


@pytest.fixture(scope="session")
def write_clips() -> Callable[[Path, int], Path]:
    """Return what writes so many clips (20 frames at 20 Hz) of `wave`, `kick` and `bend` each."""
    return _write_clips


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """Return what waits until something holds, and fails after a minute or with a process."""

    def wait(holds: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
        end = time.monotonic() + 60
        while not holds():
            assert process is None or process.poll() is None, process.communicate()[0]
            assert time.monotonic() < end, "it took more than a minute"
            # Files, windows and pages of other processes wake nobody: they can only be looked at.
            time.sleep(0.02)

    return wait
