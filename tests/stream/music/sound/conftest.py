"""Sound servers, MIDI systems and runs of music that tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
from innervate_command import starting_runs
from midi_device import Instrument, answers
from tiny_font import write_font

from benchmarks._null_sink import Capture, NullSink

HERE = Path(__file__).parent
_SERVER = f"innervate-tests-{os.getpid()}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all of this where the extra 'audio' is not installed; in CI it must be."""
    if find_spec("pretty_midi") is not None or os.environ.get("CI") == "true":
        return
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.skip(reason="needs the extra 'audio'"))


@pytest.fixture
def start_sink(
    tmp_path_factory: pytest.TempPathFactory,
    do_without: Callable[[str], NoReturn],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[], NullSink]]:
    """Start sound servers with a sink that plays nowhere; what is run then finds the newest."""
    sinks: list[NullSink] = []
    if missing := NullSink.missing():
        do_without(f"needs {', '.join(missing)}: apt install pulseaudio pulseaudio-utils")
    if find_library("portaudio") is None:
        do_without("needs PortAudio: apt install libportaudio2 libasound2-plugins")

    def start() -> NullSink:
        sink = NullSink(tmp_path_factory.mktemp("sink"))
        sinks.append(sink)
        monkeypatch.setenv("PULSE_SERVER", sink.environment["PULSE_SERVER"])
        return sink

    yield start
    for sink in sinks:
        sink.kill()


@pytest.fixture
def listen(start_sink: Callable[[], NullSink]) -> Iterator[Callable[[NullSink], Capture]]:
    """Record what comes out of a sink."""
    captures: list[Capture] = []

    def start(sink: NullSink) -> Capture:
        captures.append(Capture(sink))
        return captures[-1]

    yield start
    for capture in captures:
        capture.close()


class Jack:
    """A JACK server without a sound card, for MIDI."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            # Synchronous: otherwise messages are lost when others have the processors.
            ["jackd", "-n", _SERVER, "-r", "-S", "-d", "dummy", "-r", "48000", "-p", "1024"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 20
        while not answers():
            # A server tells nobody that it is ready: it can only be tried.
            assert time.monotonic() < end, "JACK does not start"
            time.sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def jack(do_without: Callable[[str], NoReturn], monkeypatch: pytest.MonkeyPatch) -> Iterator[Jack]:
    """Return a running JACK server, which everything that is run then finds."""
    if shutil.which("jackd") is None:
        do_without("needs JACK: apt install jackd2")
    monkeypatch.setenv("JACK_DEFAULT_SERVER", _SERVER)
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    monkeypatch.setenv("JACK_NO_AUDIO_RESERVATION", "1")
    server = Jack()
    yield server
    server.kill()
    # Clients whose server has died leave these.
    for left in Path("/dev/shm").glob(f"jack_sem.*_{_SERVER}_*"):
        left.unlink()


@pytest.fixture
def receiver(jack: Jack) -> Iterator[Callable[[], Instrument]]:
    """Return what makes an instrument that can be played."""
    made: list[Instrument] = []

    def make() -> Instrument:
        made.append(Instrument())
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def font(tmp_path: Path) -> Path:
    """Return a font with a sine that stops soon after its release."""
    return write_font(tmp_path / "tiny.sf2")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], Path]]]:
    """Start `innervate run` on these nodes; return the process and where its report will be."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    with starting_runs(tmp_path, PYTHONPATH=path) as start_run:
        yield start_run


@pytest.fixture
def part() -> Callable[[subprocess.Popen[str], str], psutil.Process]:
    """Return what finds the process of a run that has something on its command line."""

    def find(run: subprocess.Popen[str], what: str) -> psutil.Process:
        children = psutil.Process(run.pid).children(recursive=True)
        (found,) = (child for child in children if what in child.cmdline())
        return found

    return find
