"""The `console` node: what streams carry, drawn in the terminal a few times a second."""

from __future__ import annotations

import select
import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import ClassVar, TextIO, cast

import numpy as np
from numpy.typing import NDArray
from rich.console import Console as Terminal
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from stream.connectome.drawing import about, matrix_rows
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.nodes.heat import heat_strip, sparkline
from stream.nodes.outlet import Outlet
from stream.nodes.run_status import RunStatus, clock, latency_table
from stream.packet import Packet

_REFRESH_NS = 250_000_000
_PLAIN_NS = 2_000_000_000
_HISTORY = 16
_LATENCIES = 2048
_LAST_WORDS_S = 0.5


class ConsoleSettings(NodeSettings):
    """The console has no settings."""


class Screen(Terminal):
    """A terminal whose end is an error to handle, where rich would end the process."""

    def on_broken_pipe(self) -> None:
        """Raise what rich caught."""
        raise BrokenPipeError


class Console(Node[ConsoleSettings]):
    """Shows rates as a heat strip, spikes per second, behaviour, latency and drops.

    A packet only adds to sums; drawing happens four times a second, on the console's own time. When
    stdout is no terminal, it writes one plain line every two seconds. A terminal that takes no
    more text is skipped, not waited for.
    """

    use = "console"
    summary = "draws rates, behaviour, graphs, latency and drops in the terminal"
    Settings = ConsoleSettings
    accepts: ClassVar[frozenset[str]] = frozenset(
        {"spikes", "counts", "rates", "behaviour", "graph"}
    )
    max_inputs: ClassVar[int | None] = None
    delivery: ClassVar[str] = "latest"

    terminal: Screen | None = None
    """Where to draw; None for stdout."""

    def open(self, context: Context) -> None:
        """Take the terminal and listen to the statistics of the run."""
        super().open(context)
        self._views = {name: _View(name, spec) for name, spec in context.inputs.items()}
        self._status = RunStatus(context.status_address)
        self._screen = self.terminal or Screen(highlight=False)
        self._outlet: Outlet | None = None
        if _has_number(self._screen):
            self._outlet = Outlet(cast(TextIO, self._screen.file))
            self._screen.file = cast(TextIO, self._outlet)
        self._started_ns = self._due_ns = time.monotonic_ns()
        self._live: Live | None = None
        self._gone = False
        if self._screen.is_terminal and not self._screen.is_dumb_terminal:
            self._live = Live(
                console=self._screen, auto_refresh=False, vertical_overflow="crop",
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._live.start()
            # A process that is killed can show no hidden cursor again, so it stays visible.
            self._screen.show_cursor(True)

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Add one packet to what the next drawing shows."""
        self._views[stream].add(packet)
        return ()

    def due_ns(self) -> int | None:
        """Return when the next drawing is due."""
        return self._due_ns

    def tick(self) -> Iterable[Packet]:
        """Draw."""
        now_ns = time.monotonic_ns()
        self._due_ns = now_ns + (_PLAIN_NS if self._live is None else _REFRESH_NS)
        self._status.read()
        for view in self._views.values():
            view.fold()
        self._draw()
        return ()

    def finish(self) -> Iterable[Packet]:
        """Draw the last state."""
        return self.tick()

    def close(self) -> None:
        """Give the terminal back."""
        live, self._live = getattr(self, "_live", None), None
        outlet = getattr(self, "_outlet", None)
        try:
            if live is not None and not self._gone:
                live.stop()
            if outlet is not None and not self._gone:
                outlet.wait(_LAST_WORDS_S)
        except OSError:
            self._lose_terminal()
        if hasattr(self, "_status"):
            self._status.close()

    def _draw(self) -> None:
        if self._gone or not self._takes_text():
            return
        try:
            if self._live is None:
                self._screen.print(self.line(), soft_wrap=True, markup=False)
            else:
                self._live.update(self.picture(), refresh=True)
        except OSError:
            self._lose_terminal()

    def _takes_text(self) -> bool:
        """Return whether the last picture has gone out and the terminal is not stopped."""
        if self._outlet is None:
            return True
        if not self._outlet.idle:
            return False
        if sys.platform == "win32":
            return True
        return bool(select.select([], [self._outlet.fileno()], [], 0)[1])

    def _lose_terminal(self) -> None:
        """Go on without a terminal that was closed: a view must not end the run."""
        self._gone = True
        self.context.counters.note("terminal", "closed during the run")

    def line(self) -> str:
        """Return what is to be said in one plain line."""
        parts = [f"{self._elapsed_s():.0f} s"]
        parts += [view.headline() for view in self._views.values()]
        parts.append("lost {}, dropped {}".format(*self._status.losses()))
        return self._writable(" | ".join(parts))

    def picture(self) -> RenderableType:
        """Return the whole view, as wide and no higher than the terminal."""
        width, height = self._screen.size
        colour = self._screen.color_system is not None
        unicode = self._screen.encoding.startswith("utf")
        views = list(self._views.values())[: max(1, height - 2)]
        strips = [view for view in views if view.draws_strip]
        rows = self._status.rows()
        left = height - 2 - len(views)
        if len(rows) + 1 <= left - 2 * len(strips):
            left -= len(rows) + 1
        else:
            rows = []
        lines = min(8, left // max(1, len(strips)))
        parts: list[RenderableType] = [self._title()]
        for view in views:
            headline = view.curves(unicode) if view.spec.kind == "behaviour" else view.headline()
            parts.append(Text(self._writable(headline), "bold", no_wrap=True, overflow="crop"))
            if view.draws_strip and lines > 0:
                rates = np.array(view.history)
                top = view.scale_hz
                strip = heat_strip(rates, width, lines, top=top, colour=colour, unicode=unicode)
                parts.append(strip)
        if rows:
            parts.append(latency_table(rows))
        return Group(*parts)

    def _title(self) -> Text:
        pipeline, (lost, dropped) = self.context.pipeline or "innervate", self._status.losses()
        title = Text(no_wrap=True, overflow="crop")
        title.append(self._writable(f"{pipeline}  {clock(self._elapsed_s())}  "), "bold")
        title.append(f"lost {lost}", "bold red" if lost else "dim")
        return title.append(f"  dropped {dropped}", "dim")

    def _writable(self, text: str) -> str:
        """Replace what the terminal's encoding lacks: units may have any name."""
        return text.encode(self._screen.encoding, "replace").decode(self._screen.encoding)

    def _elapsed_s(self) -> float:
        return (time.monotonic_ns() - self._started_ns) / 1e9


class _View:
    """What the console keeps of one stream: sums since the last drawing, and a short history."""

    def __init__(self, name: str, spec: StreamSpec) -> None:
        self.name = name
        self.spec = spec
        self.history: deque[NDArray[np.float64]] = deque(maxlen=_HISTORY)
        self.scale_hz = 1.0
        self.spikes_per_s = float("nan")
        self._latencies_ns: deque[int] = deque(maxlen=_LATENCIES)
        self._total: NDArray[np.float64] | None = None
        self._graph: Packet | None = None
        self._spikes = 0
        self._packets = 0
        self._covered_ns = 0
        self._per_packet_to_hz = 1.0
        if spec.kind == "counts" and spec.period_s:
            self._per_packet_to_hz = 1.0 / spec.period_s

    def add(self, packet: Packet) -> None:
        self._latencies_ns.append(time.monotonic_ns() - packet.t_ns)
        self._packets += 1
        if packet.kind == "graph":
            self._graph = packet
        elif packet.kind == "spikes":
            self._spikes += len(packet.data)
            self._covered_ns += packet.source_end_ns - packet.source_ns
        elif self._total is None:
            self._total = packet.data.astype(np.float64)
        else:
            self._total += packet.data

    def fold(self) -> None:
        """Turn what came since the last call into one line of the history."""
        if not self._packets:
            return
        if self._graph is not None:
            rows = matrix_rows(self._graph, _HISTORY)
            self.history = deque(rows, maxlen=_HISTORY)
            self.scale_hz = float(rows.max(initial=0.0)) or 1.0
        elif self._total is not None:
            mean = self._total / self._packets * self._per_packet_to_hz
            self.history.append(mean)
            self.spikes_per_s = float(mean.sum())
            # The scale follows a peak at once and comes down slowly, so that colours hold still.
            peak = float(np.percentile(np.nan_to_num(mean, posinf=0.0), 98))
            self.scale_hz = max(1.0, 0.95 * self.scale_hz, peak)
        elif self._covered_ns:
            self.spikes_per_s = self._spikes / (self._covered_ns / 1e9)
        self._total = None
        self._packets = self._spikes = self._covered_ns = 0

    def headline(self) -> str:
        """Say in one line what came last."""
        if not self._latencies_ns:
            return f"{self.name}: nothing yet"
        p50, p99 = np.percentile(self._latencies_ns, [50, 99]) / 1e6
        latency = f"latency p50 {p50:.1f} p99 {p99:.1f} ms"
        if self.spec.kind == "behaviour":
            return f"{self.name}: {self._values()}, {latency}"
        if self._graph is not None:
            return f"{self.name}: {about(self._graph)}, {latency}"
        flow = f"{self.spikes_per_s:.0f} spikes/s"
        if self.history:
            newest = self.history[-1]
            flow = f"{len(newest)} units, {flow}, peak {newest.max():.0f} Hz{self._peak()}"
        return f"{self.name}: {flow}, {latency}"

    @property
    def draws_strip(self) -> bool:
        """Whether there is something to draw as a heat strip."""
        return bool(self.history) and self.spec.kind != "behaviour"

    def curves(self, unicode: bool) -> str:
        """Show each column as a short curve and its newest value."""
        if not self.history:
            return self.headline()
        past = np.array(self.history)
        return f"{self.name}: " + "  ".join(
            f"{name} {sparkline(past[:, column], unicode)} {past[-1, column] + 0.0:.3g}"
            for column, name in enumerate(self._columns())
        )

    def _columns(self) -> tuple[str, ...]:
        size = len(self.history[-1]) if self.history else 0
        return (self.spec.names or tuple(str(i) for i in range(size)))[:6]

    def _values(self) -> str:
        newest = self.history[-1] if self.history else ()
        return " ".join(
            f"{name} {value:.3g}" for name, value in zip(self._columns(), newest, strict=False)
        )

    def _peak(self) -> str:
        names = self.spec.names
        return f" ({names[int(self.history[-1].argmax())]})" if names else ""


def _has_number(terminal: Screen) -> bool:
    """Return whether the terminal is a file of the system, and not one in memory."""
    try:
        return terminal.file.fileno() >= 0
    except (OSError, ValueError):
        return False
