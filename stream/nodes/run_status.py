"""What a run publishes of itself while it goes on: read, and laid out for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import zmq
from rich.table import Table

_MAX_MESSAGES = 100
_LOSSES = ("dropped", "lost")


class RunStatus:
    """The statistics that a run publishes, as far as they are there.

    Parameters
    ----------
    address
        Where the run publishes them, as in `Context.status_address`; empty for nowhere.

    Attributes
    ----------
    newest
        The newest message, as `docs/wire-format.md` describes it; empty before the first.
    """

    def __init__(self, address: str) -> None:
        self.newest: Mapping[str, Any] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        if address:
            self._context = zmq.Context()
            self._socket = self._context.socket(zmq.SUB)
            self._socket.linger = 0
            self._socket.subscribe(b"")
            self._socket.connect(address)

    def read(self) -> bool:
        """Take the newest message, without waiting for one, and return whether one came."""
        came = False
        if self._context is None:
            return came
        for _ in range(_MAX_MESSAGES):
            try:
                frames = self._socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                break
            try:
                newest = msgspec.msgpack.decode(frames[-1])
            except msgspec.DecodeError:
                continue
            if isinstance(newest, dict):
                self.newest, came = newest, True
        return came

    def wait(self, timeout_s: float) -> bool:
        """Take the newest message, waiting this long for one, and return whether one came."""
        if self._context is not None:
            self._socket.poll(round(1000 * timeout_s))
        return self.read()

    def losses(self) -> tuple[int, int]:
        """Return how many packets nodes refused or links lost, and how many links dropped.

        What a link drops is what its `deliver` asks for.
        """
        nodes, links = children(self.newest, "nodes"), children(self.newest, "links")
        refused = sum(number(n) for node in nodes.values() for n in _values(node.get("dropped")))
        # Packets that a link may drop count as lost until the news of the drop arrives.
        lossless = (link for link in links.values() if link.get("deliver") == "lossless")
        lost = sum(number(link.get("lost")) for link in lossless)
        return refused + lost, sum(number(link.get("dropped")) for link in links.values())

    def rows(self) -> list[tuple[str, ...]]:
        """For each link and each way through the run: name, p50 and p99 in ms, drops, losses."""
        rows: list[tuple[str, ...]] = []
        for part, title in (("links", ""), ("end_to_end", "end to end")):
            found = children(self.newest, part)
            if found and title:
                rows.append((title,))
            for name, entry in found.items():
                times = (f"{number(entry.get(key)) / 1e3:.2f}" for key in ("p50_us", "p99_us"))
                losses = (str(number(entry[key])) if key in entry else "" for key in _LOSSES)
                rows.append((name, *times, *losses))
        return rows

    def close(self) -> None:
        """Stop listening."""
        if self._context is not None:
            self._socket.close()
            self._context.term()
            self._context = None


def children(status: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    """Return the maps under a key of a status by their names; none where there are none."""
    found = status.get(key)
    if not isinstance(found, dict):
        return {}
    return {str(name): entry for name, entry in found.items() if isinstance(entry, dict)}


def _values(found: object) -> Iterable[object]:
    return found.values() if isinstance(found, dict) else ()


def number(value: object) -> int:
    """Return a number as a whole one, 0 for what is none."""
    return round(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def latency_table(rows: list[tuple[str, ...]]) -> Table:
    """Lay out what `RunStatus.rows` returns."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("link", no_wrap=True, overflow="crop", ratio=1)
    for name in ("p50 ms", "p99 ms", *_LOSSES):
        table.add_column(name, justify="right", no_wrap=True, overflow="crop")
    for row in rows:
        table.add_row(*row, style="dim" if len(row) == 1 else None)
    return table


def clock(seconds: float) -> str:
    """Write a duration as hours, minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:d}:{minutes:02d}:{rest:02d}"
