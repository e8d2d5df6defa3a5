from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.connectome.drawing import matrix_rows
from stream.node import Context, StreamSpec
from stream.nodes.console import Console, ConsoleSettings, Screen
from stream.nodes.heat import fold, heat_strip, sparkline
from stream.packet import Packet

UNITS = tuple(f"u{i}" for i in range(40))
RATES = StreamSpec("rates", (40,), "float32", UNITS, "Hz", 0.005)
BINS = StreamSpec("counts", (40,), "float32", UNITS, "count", 0.005)
HAND = StreamSpec("behaviour", (2,), "float32", ("vel_x", "vel_y"), "mm/s", 0.005)
SPIKES = StreamSpec("spikes", (None, 2), "int64", UNITS)


@pytest.fixture
def open_console(tmp_path):
    opened = []

    def make(terminal, status="", **streams):
        node = Console(ConsoleSettings())
        node.terminal = terminal
        node.open(Context("view", streams, tmp_path, pipeline="demo", status_address=status))
        opened.append(node)
        return node

    yield make
    for node in opened:
        node.close()


def terminal(width=80, height=30, **options):
    given = {"force_terminal": True, "color_system": "truecolor", "_environ": {}, **options}
    return Screen(
        file=io.TextIOWrapper(io.BytesIO(), encoding=given.pop("encoding", "utf-8")), width=width,
        height=height, record=True, legacy_windows=False, **given,
    )  # fmt: skip


def packet(kind, data):
    return Packet(
        kind=kind, data=np.asarray(data), t_ns=time.monotonic_ns() - 1_500_000, source_ns=0,
        source_end_ns=5_000_000,
    )  # fmt: skip


def show(node, moments=4):
    """Feed a wave of rates that travels over the units, and what goes with it."""
    for moment in range(moments):
        wave = 40 + 40 * np.sin(np.arange(40) / 6 + moment)
        for stream, data in {
            "rates": wave.astype(np.float32),
            "bins": (wave * 0.005).astype(np.float32),
            "rates.behaviour": np.float32([np.sin(moment), -12.5]),
            "probe": np.zeros((8, 2), np.int64),
        }.items():
            if stream in node.context.inputs:
                kind = node.context.inputs[stream].kind
                list(node.process(stream, packet(kind, data)))
        list(node.tick())


def draw(node):
    """Return what the terminal shows, as text."""
    node.close()
    node.terminal.export_text()
    node.terminal.print(node.picture())
    return node.terminal.export_text()


def test_a_screenshot_shows_rates_behaviour_spikes_and_latency(open_console):
    screen = terminal()
    node = open_console(screen, rates=RATES, bins=BINS, probe=SPIKES, **{"rates.behaviour": HAND})
    show(node)
    lines = draw(node).splitlines()
    text = "\n".join(lines)
    assert lines[0].startswith("demo  0:00:0")
    assert re.search(r"rates: 40 units, \d+ spikes/s, peak \d\d Hz \(u\d+\), latency p50", text)
    assert re.search(r"bins: 40 units, \d+ spikes/s", text)
    assert re.search(r"probe: 1600 spikes/s", text)
    assert re.search(r"vel_x [▁▂▃▄▅▆▇█]{4} 0\.141  vel_y .{4} -12\.5", text)
    assert sum(line.startswith("▀" * 80) for line in lines) == 4, "two strips of two lines each"
    assert len(lines) <= 30


def test_counts_are_shown_as_rates_of_everything_since_the_last_drawing(open_console):
    node = open_console(terminal(), bins=StreamSpec("counts", (2,), "float32", period_s=0.01))
    for counts in ([1, 0], [0, 0], [2, 0], [1, 0]):
        list(node.process("bins", packet("counts", np.float32(counts))))
    list(node.tick())
    assert "2 units, 100 spikes/s, peak 100 Hz" in node.line()


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(4, 200), height=st.integers(3, 60), colour=st.booleans(),
    encoding=st.sampled_from(["utf-8", "ascii", "latin-1"]),
)  # fmt: skip
def test_it_fits_any_terminal_and_any_encoding(width, height, colour, encoding):
    screen = terminal(
        width, height, encoding=encoding, color_system="truecolor" if colour else None
    )
    node = Console(ConsoleSettings())
    node.terminal = screen
    streams = {"rates": RATES, "rates.behaviour": HAND}
    node.open(Context("view", streams, Path(), pipeline="demo"))
    show(node)
    text = draw(node)
    text.encode(encoding)
    assert all(len(line) <= width for line in text.splitlines())
    assert len(text.splitlines()) <= max(height, 5)


def test_drops_and_links_come_from_what_the_run_publishes(tmp_path, open_console):
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.linger = 0
        address = f"ipc://{tmp_path}/status"
        publisher.bind(address)
        screen = terminal(width=100)
        node = open_console(screen, status=address, rates=RATES)
        link = {"p50_us": 120.0, "p99_us": 480.0, "dropped": 2, "lost": 1, "deliver": "lossless"}
        message = msgspec.msgpack.encode(
            {
                "nodes": {"bins": {"dropped": {"late": 3}}},
                "links": {"probe->bins": link},
                "end_to_end": {"probe->rates": {"p50_us": 900, "p99_us": 1500}},
            }
        )
        deadline = time.monotonic() + 20
        while "lost 4, dropped 2" not in node.line() and time.monotonic() < deadline:
            publisher.send_multipart([b"status", b"\xc1 not msgpack"])
            publisher.send_multipart([b"status", message])
            list(node.tick())
        show(node)
        text = draw(node)
    assert "lost 4  dropped 2" in text
    assert re.search(r"probe->bins +0\.12 +0\.48 +2 +1 *\n", text)
    assert re.search(r"end to end *\nprobe->rates +0\.90 +1\.50 *\n", text)


def test_without_a_terminal_it_writes_plain_lines_two_seconds_apart(open_console):
    output = io.StringIO()
    node = open_console(Screen(file=output, width=80), rates=RATES)
    before = node.due_ns()
    show(node, moments=1)
    assert re.fullmatch(
        r"0 s \| rates: 40 units, \d+ spikes/s, peak 80 Hz \(u\d+\),"
        r" latency p50 [\d.]+ p99 [\d.]+ ms \| lost 0, dropped 0\n",
        output.getvalue(),
    )
    assert node.due_ns() - before >= 2_000_000_000


def test_names_are_shown_as_they_are_and_never_read_as_markup(open_console):
    output = io.StringIO()
    names = ("[/x]", "[red]b")
    node = open_console(
        Screen(file=output, width=80), rates=StreamSpec("rates", (2,), "float32", names)
    )
    for rates in ([2, 1], [1, 2]):
        list(node.process("rates", packet("rates", np.float32(rates))))
        list(node.tick())
    assert re.findall(r"Hz \((.*?)\)", output.getvalue()) == list(names)


def test_a_graph_is_drawn_as_a_matrix_with_its_age_and_change(open_console):
    names = tuple(f"u{i}" for i in range(40))
    spec = StreamSpec("graph", (40, 40, 3), "float32", names, "", 0.1)
    node = open_console(terminal(), graphs=spec)
    data = np.zeros((40, 40, 3), np.float32)
    data[0, 5] = data[39, 20] = (1, -0.5, 1e-6)
    shown = packet("graph", data)
    shown.meta = {"change": 2.34, "age_s": 10.0}
    node.process("graphs", shown)
    list(node.tick())
    text = draw(node)
    assert "graphs: 40 units, 2 edges, change 2.3, 10.0 s old" in text
    assert sum(line.startswith("▀" * 80) for line in text.splitlines()) == 8
    rows = matrix_rows(shown, 16)
    assert [(i, j) for i, j in np.argwhere(rows)] == [(0, 5), (15, 20)]


def test_streams_that_are_silent_are_said_to_be(open_console):
    node = open_console(Screen(file=io.StringIO()), rates=RATES, probe=SPIKES)
    list(node.tick())
    assert "rates: nothing yet | probe: nothing yet" in node.line()


def test_a_closed_pipe_does_not_end_the_run(open_console):
    reader, writer = os.pipe()
    file = os.fdopen(writer, "w", buffering=1)
    node = open_console(Screen(file=file), rates=RATES)
    os.close(reader)
    show(node)
    node.close()
    assert node.context.counters.notes == {"terminal": "closed during the run"}
    file.close()


def test_a_pipe_that_nobody_reads_is_skipped_and_not_waited_for(open_console):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    with os.fdopen(writer, "w") as file:
        node = open_console(Screen(file=file), rates=RATES)
        show(node)
        node.close()
    os.set_blocking(reader, False)
    assert set(os.read(reader, 1 << 20)) == {ord("x")}
    os.close(reader)


def test_a_terminal_that_takes_half_a_picture_and_then_nothing_keeps_nobody_waiting(open_console):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as file:
        screen = Screen(file=file, width=200, height=60, force_terminal=True, _environ={})
        node = open_console(screen, rates=RATES, bins=BINS)
        show(node, moments=200)
        node.close()
    os.close(ours)


KILLED = """
import os, pathlib, signal, sys, time
import numpy as np
from stream.node import Context, StreamSpec
from stream.nodes.console import Console, ConsoleSettings, Screen
from stream.packet import Packet

node = Console(ConsoleSettings())
node.open(Context("view", {"rates": StreamSpec("rates", (4,), "float32")}, pathlib.Path()))
node.process("rates", Packet("rates", np.ones(4, np.float32), 0, 0, 0))
node._outlet.wait(10)
node.tick()
node._outlet.wait(10)
if sys.argv[1] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
node.close()
"""


@pytest.mark.parametrize("end", ["close", "kill"])
def test_the_terminal_is_as_before_after_it_was_closed_or_killed(end):
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "60", "LINES": "20"}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, end], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 4096):
            written += chunk
    except OSError:
        pass
    process.wait()
    os.close(ours)
    assert b"rates: 4 units" in written
    assert b"\x1b[?1049h" not in written, "it stays on the normal screen"
    assert written.rfind(b"\x1b[?25h") > written.rfind(b"\x1b[?25l"), "the cursor is visible"


@given(units=st.integers(1, 500), width=st.integers(1, 300), moments=st.integers(1, 8))
def test_units_fold_into_the_width_and_keep_their_mean(units, width, moments):
    rows = np.random.default_rng(units).random((moments, units))
    folded = fold(rows, width)
    assert folded.shape[0] == moments
    assert 1 <= folded.shape[1] <= width
    assert folded.min() >= rows.min() - 1e-12
    assert folded.max() <= rows.max() + 1e-12


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_any_value_can_be_drawn(values, colour, unicode):
    rows = np.array([values], np.float64)
    strip = heat_strip(rows, 10, 2, top=5.0, colour=colour, unicode=unicode)
    assert len(strip.plain) <= 10
    assert len(sparkline(rows[0], unicode)) == len(values)


def test_more_heat_is_a_lighter_colour_and_no_colour_is_a_denser_block():
    rows = np.array([[0.0, 10.0]])
    strip = heat_strip(rows, 2, 1, top=10.0, colour=True, unicode=True)
    cold, hot = (span.style.bgcolor.get_truecolor() for span in strip.spans)
    assert sum(cold) < sum(hot)
    assert heat_strip(rows, 2, 1, top=10.0, colour=False, unicode=True).plain == " █"
    assert heat_strip(rows, 2, 1, top=10.0, colour=False, unicode=False).plain == " #"
