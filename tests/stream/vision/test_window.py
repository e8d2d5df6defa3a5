"""The window of `overlay` on a real X server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

_TOOLS = ("Xvfb", "xdotool")


@pytest.fixture
def display(
    monkeypatch: pytest.MonkeyPatch, do_without: Callable[[str], NoReturn]
) -> Iterator[None]:
    """Start an X server without a screen, and let what is started show its windows there."""
    if not all(map(shutil.which, _TOOLS)):
        do_without("needs Xvfb and xdotool: apt-get install xvfb xdotool")
    readable, writable = os.pipe()
    # Without -noreset it starts anew whenever its last client leaves, as xdotool does between two
    # looks, and a window that comes just then finds no server.
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writable), "-screen", "0", "800x600x24", "-nolisten", "tcp",
         "-noreset"],
        pass_fds=[writable], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(writable)
    with os.fdopen(readable) as told:
        monkeypatch.setenv("DISPLAY", f":{told.readline().strip()}")
    yield
    server.terminate()
    server.wait()


def test_a_window_is_shown_until_escape_closes_it_and_the_run_goes_on(
    wait_for, display, start, write_video, tmp_path
):
    process, report = start(
        "--for", "6s",
        camera={"use": "video", "file": str(write_video()), "loop": True},
        seen={"use": "overlay", "from": "camera", "window": True},
    )  # fmt: skip

    def tell(*words: str) -> bool:
        done = subprocess.run(["xdotool", "search", "--name", "tested: seen", *words], check=False,
                              capture_output=True)  # fmt: skip
        return done.returncode == 0

    wait_for(tell, process)
    # A window that has just appeared may not take keys yet.
    wait_for(lambda: not tell("key", "Escape"), process)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    told = json.loads(report.read_text())
    assert told["nodes"]["seen"]["notes"] == {"window_closed": True}, "and no file was written"
    assert told["nodes"]["camera"]["packets_out"] > 40
