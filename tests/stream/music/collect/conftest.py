"""A MIDI keyboard that is played by the test, on a JACK server without sound."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest
from midi_device import Keyboard, answers

HERE = Path(__file__).parent
# The camera double is beside the tests of vision.
sys.path.insert(0, str(HERE.parents[1] / "vision"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the extras where they are not installed; in CI they must be."""
    missing = [module for module in ("cv2", "mido", "rtmidi") if find_spec(module) is None]
    if not missing or os.environ.get("CI") == "true":
        return
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.skip(reason=f"needs {', '.join(missing)}"))


@pytest.fixture(scope="module")
def collect_jack(
    do_without: Callable[[str], NoReturn], wait_for: Callable[..., None]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a JACK server of its own, for this process and those that it starts."""
    with _serve("tests", do_without, wait_for) as server:
        yield server


@pytest.fixture
def mortal_jack(
    do_without: Callable[[str], NoReturn], wait_for: Callable[..., None]
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a JACK server that the test may end."""
    with _serve("mortal", do_without, wait_for) as server:
        yield server


@contextmanager
def _serve(
    what: str, do_without: Callable[[str], NoReturn], wait_for: Callable[..., None]
) -> Iterator[subprocess.Popen[bytes]]:
    if not shutil.which("jackd"):
        do_without("needs jackd: apt-get install jackd2")
    name = f"collect-{what}-{os.getpid()}"

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JACK_DEFAULT_SERVER", name)
        server = subprocess.Popen(
            # Synchronous: otherwise messages are lost when others have the processors.
            ["jackd", "-n", name, "-r", "-S", "-d", "dummy", "-r", "48000", "-p", "128"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(answers, server)
        yield server
    server.terminate()
    server.wait()
    # Clients that outlive their server leave files behind.
    for path in Path("/dev/shm").glob(f"jack*_{name}_*"):
        path.unlink()


@pytest.fixture
def plug_in(collect_jack: object) -> Iterator[Callable[[str], Keyboard]]:
    """Plug in a keyboard of that name."""
    keyboards: list[Keyboard] = []

    def plug(name: str) -> Keyboard:
        keyboards.append(Keyboard(name))
        return keyboards[-1]

    yield plug
    for keyboard in keyboards:
        keyboard.close()
