"""The `page` node: the run in a browser on this host."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pydantic import Field

from stream.errors import ConfigError
from stream.node import Context, Node, NodeSettings, StreamSpec
from stream.nodes.run_status import RunStatus
from stream.packet import Packet
from stream.page.log_lines import MOST as MOST_LINES
from stream.page.log_lines import LogLines
from stream.page.panels.kinds import KINDS, panel_class
from stream.page.panels.panel import HISTORY, Panel
from stream.page.panels.traces import Traces
from stream.page.server import UPDATES_HZ, Arm, PageServer, Wish, check_server, new_token
from stream.runtime.run_folders import read_announcement
from stream.runtime.switching import Switch

_log = logging.getLogger(__name__)
_TICK_NS = 1_000_000_000 // UPDATES_HZ
_LOG_NS = 500_000_000
_LAST_STATUS_S = 0.5
# No stream is called so.
STATUS, LOG = ":status", ":log"
_SENT = ("t_ns", "state", "message", "failed", "pipeline", "duration_s", "links", "end_to_end")
_OF_NODE = ("packets_in", "packets_out", "dropped", "gaps", "errors", "restarts", "cpu_s")


class PageSettings(NodeSettings):
    """Settings of `page`."""

    port: int = Field(
        0, ge=0, le=65535, description="port of the page on this host; 0 for one that is free"
    )
    token: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]{16,64}$",
        description="what the address of the page begins with; by default a new one each run",
    )  # fmt: skip


class Page(Node[PageSettings]):
    """Shows streams, latencies, losses, nodes and log lines on a page in the browser.

    What came is gathered 30 times a second and handed to the server's thread, which encodes it and
    sends it to the browsers that have drawn what they got before; so neither they nor their number
    slow the run.
    """

    use = "page"
    summary = "shows streams, latencies and the state of the run in a browser"
    Settings = PageSettings
    accepts: ClassVar[frozenset[str]] = frozenset({"*"})
    max_inputs: ClassVar[int | None] = None
    delivery: ClassVar[str] = "latest"
    gathers: ClassVar[bool] = True

    def outputs(self, inputs: Mapping[str, StreamSpec]) -> dict[str, StreamSpec]:
        """Check that each stream can be shown, and the page be served.

        Raises
        ------
        ConfigError
            A stream cannot be shown; the port is taken.
        MissingExtraError
            The library for WebSockets is not installed, or, for frames, OpenCV.
        """
        for name, spec in inputs.items():
            if panel_class(spec) is None:
                raise ConfigError(
                    f"'{name}' carries {spec.kind} of shape {list(spec.shape)}, which 'page' cannot"
                    f" show; it shows {', '.join(KINDS)}."
                )
            if spec.kind == "frame":
                from stream.vision.opencv import load_cv2

                load_cv2("The node 'page'")
        check_server(self.settings.port)
        return {}

    def open(self, context: Context) -> None:
        """Begin to serve.

        Raises
        ------
        ConfigError
            The port is taken by now.
        """
        super().open(context)
        self._panels: dict[str, Panel] = {}
        for name, spec in context.inputs.items():
            cls = panel_class(spec)
            assert cls is not None
            panel = self._panels[name] = cls(name, spec, context.counters)
            panel.watched = lambda: self._server.clients > 0
        about = {
            "pipeline": context.pipeline, "history": HISTORY / UPDATES_HZ, "lines": MOST_LINES,
            "panels": [panel.describe() for panel in self._panels.values()],
        }  # fmt: skip
        depths = {name: panel.depth for name, panel in self._panels.items()}
        self._server = PageServer(
            self.settings.port, self.settings.token or new_token(), about,
            {**depths, STATUS: 1, LOG: MOST_LINES},
        )  # fmt: skip
        context.counters.note("page", self._server.address)
        self._status = RunStatus(context.status_address)
        self._log = LogLines(context.run_dir)
        self._asking: Switch | None = None
        self._due_ns = self._log_ns = time.monotonic_ns()

    def process(self, stream: str, packet: Packet) -> Iterable[Packet]:
        """Gather one packet."""
        self._panels[stream].add(packet)
        return ()

    def due_ns(self) -> int | None:
        """Return when what came is to be handed over."""
        return self._due_ns

    def tick(self) -> Iterable[Packet]:
        """Hand over what came."""
        now_ns = time.monotonic_ns()
        self._due_ns = max(self._due_ns + _TICK_NS, now_ns)
        for wish in self._server.wishes():
            self._grant(wish)
        self._hear()
        self._publish(now_ns >= self._log_ns)
        return ()

    def finish(self) -> Iterable[Packet]:
        """Hand over the last of it."""
        self._publish(True)
        return ()

    def close(self) -> None:
        """Tell the browsers how the run ended."""
        if not hasattr(self, "_log"):
            return
        # Whatever ends the run says so first, but on another way than the ends of the streams.
        end = time.monotonic() + _LAST_STATUS_S
        while self._status.newest.get("state") in ("starting", "running") and (
            (left := end - time.monotonic()) > 0
        ):
            self._status.wait(left)
        status = self._status.newest
        chunks = self._watched(True)
        chunks[STATUS] = _shown(status)
        self._server.publish(chunks)
        self._server.close({"message": str(status.get("message", ""))})
        self._status.close()
        if self._asking is not None:
            self._asking.close()

    def _grant(self, wish: Wish) -> None:
        if isinstance(wish, Arm):
            self._switch(wish)
            return
        panel = self._panels.get(wish.stream)
        if not (isinstance(panel, Traces) and panel.choose(wish.channels)):
            self.context.counters.drop("no_such_channels")

    def _switch(self, wish: Arm) -> None:
        if self._asking is None:
            found = read_announcement(self.context.run_dir)
            if found is None:
                _log.error("nothing can be armed or disarmed from here: the run does not say how")
                return
            self._asking = Switch(found.switch, f"the page '{self.context.name}'")
        if not self._asking.ask(wish.node, wish.armed, wish.seen_ns):
            _log.error("'%s' could not be switched: the run takes no more wishes", wish.node)

    def _hear(self) -> None:
        """Say in the log, which the page shows, why somebody's wish was not granted."""
        while self._asking is not None and self._asking.answered:
            if why := self._asking.answer():
                _log.error("%s", why)

    def _publish(self, log: bool) -> None:
        chunks = self._watched(log)
        for name, panel in self._panels.items():
            if (chunk := panel.take()) is not None:
                chunks[name] = chunk
        if chunks:
            self._server.publish(chunks)
        note, server = self.context.counters.note, self._server
        note("pages_open", server.clients)
        if server.skipped:
            note("chunks_skipped", server.skipped)
        if server.refused:
            note("requests_refused", server.refused)

    def _watched(self, log: bool) -> dict[str, dict[str, Any]]:
        """Return what is new of the state of the run, and of its logs."""
        chunks: dict[str, dict[str, Any]] = {}
        if self._status.read():
            chunks[STATUS] = _shown(self._status.newest)
        if log:
            self._log_ns = time.monotonic_ns() + _LOG_NS
            if lines := self._log.take():
                chunks[LOG] = {"lines": lines}
        return chunks


def _shown(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a status: nothing that grows with what nodes leave in notes."""
    shown = {key: status[key] for key in _SENT if key in status}
    shown["nodes"] = {
        name: {
            **{key: node.get(key) for key in _OF_NODE},
            "armed": node.get("notes", {}).get("armed"),
        }
        for name, node in status.get("nodes", {}).items()
    }
    shown["processes"] = status.get("processes", {})
    return shown
