"""Serves the page and what is new on it: on this host only, and only to who has the token."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import importlib.util
import logging
import mimetypes
import re
import secrets
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stream.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

HOST = "127.0.0.1"
UPDATES_HZ = 30
_WEB = Path(__file__).with_name("web")
_FILE = re.compile(r"((vendor|views)/)?[A-Za-z]+(\.min|\.iife\.min)?\.(html|js|css)")
_MOST_CLIENTS = 8
_MOST_INCOMING_BYTES = 1024
_MOST_WISHES = 64
_SILENT_S = 60.0
_LAST_WORDS_S = 1.0
_JPEG_QUALITY = 70
DRAWN = "drawn"
"""What a browser says when it has drawn what it got."""

_encode = msgspec.msgpack.Encoder().encode


class Show(msgspec.Struct, tag=True):
    """Browser: draw these channels of a stream, by index."""

    stream: str
    channels: list[int]


class Arm(msgspec.Struct, tag=True):
    """Browser: arm or disarm a node. `seen_ns` is `t_ns` of the newest status that it shows."""

    node: str
    armed: bool
    seen_ns: int


Wish = Show | Arm
"""What a browser may ask for beside updates, as JSON with the name of the class under `type`."""

_read_wish = msgspec.json.Decoder(Wish).decode


def check_server(port: int) -> None:
    """Refuse a page that could not be served, before anything starts.

    Raises
    ------
    MissingExtraError
        The library for WebSockets is not installed.
    ConfigError
        The port is taken, or may not be used.
    """
    if importlib.util.find_spec("websockets") is None:
        raise MissingExtraError("The page", "page")
    bind(port).close()


def bind(port: int) -> socket.socket:
    """Return a socket of this host at a port, 0 for a free one.

    Raises
    ------
    ConfigError
        The port is taken, or may not be used.
    """
    made = socket.socket()
    # A port that a run has just left may be taken again at once.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
    except OSError as error:
        made.close()
        raise ConfigError(
            f"page: port {port} cannot be used ({error.strerror}); another run may have it, choose"
            " another number, or none for any that is free."
        ) from None
    return made


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(24)


def address(port: int, token: str) -> str:
    """Return what to open in a browser."""
    return f"http://{HOST}:{port}/{token}/"


class _Ring:
    """The newest chunks of one stream, each encoded once, however many look."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.total = 0
        self._kept: deque[dict[str, Any] | msgspec.Raw] = deque(maxlen=depth)

    @property
    def first(self) -> int:
        """The number of the oldest chunk that is kept."""
        return self.total - len(self._kept)

    def put(self, chunk: dict[str, Any]) -> None:
        self._kept.append(chunk)
        self.total += 1

    def after(self, seen: int) -> list[msgspec.Raw]:
        """Return what is kept of the chunks after the first `seen`."""
        found = []
        for index in range(max(0, seen - self.first), len(self._kept)):
            chunk = self._kept[index]
            if not isinstance(chunk, msgspec.Raw):
                chunk = self._kept[index] = msgspec.Raw(_encode(_plain(chunk)))
            found.append(chunk)
        return found

    def missed(self, seen: int) -> int:
        """Return how many after the first `seen` are not kept any more, where all matter."""
        return max(0, self.first - seen) if self.depth > 1 else 0


class _Client:
    """One browser. `free` while it has drawn what it got, which was up to update `number`; `seen`
    is how many chunks it has of each stream, `skipped` how many it missed.
    """

    def __init__(self, rings: Mapping[str, _Ring]) -> None:
        self.free = True
        self.number = 0
        self.skipped = 0
        # What there was before it came is not missed, and what is kept of it is shown.
        self.seen = {name: ring.first for name, ring in rings.items()}


class PageServer:
    """Serves the page in a thread of its own.

    A browser gets the next update when it has drawn the last one, at most 30 times a second, and
    then what is newest: of each stream no more than its panel's `depth`. So nothing piles up for
    one that is slow, hidden or asleep; what it misses is counted.

    Parameters
    ----------
    port, token
        Where, 0 for a free port, and what the address must begin with.
    about
        What a page is told when it opens.
    depths
        For every stream how many chunks are kept.

    Attributes
    ----------
    address
        What to open.
    skipped, refused
        Chunks that browsers were too slow for; requests and wishes that were turned away.

    Raises
    ------
    ConfigError
        The port is taken, or may not be used.
    """

    def __init__(
        self, port: int, token: str, about: Mapping[str, Any], depths: Mapping[str, int]
    ) -> None:
        self._socket = bind(port)
        port = self._socket.getsockname()[1]
        self.address = address(port, token)
        self._connections: set[ServerConnection] = set()
        self.skipped = 0
        self.refused = 0
        self._hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        self._prefix = f"/{token}/"
        self._about = msgspec.Raw(_encode(about))
        self._wishes: deque[Wish] = deque()
        self._rings = {name: _Ring(depth) for name, depth in depths.items()}
        self._number = 0
        self._end: dict[str, Any] | None = None
        self._loop = asyncio.new_event_loop()
        self._news = asyncio.Condition()
        self._ended = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def clients(self) -> int:
        """How many pages are open."""
        return len(self._connections)

    def publish(self, chunks: Mapping[str, dict[str, Any]]) -> None:
        """Give what is new of some streams to everybody who looks; returns at once."""
        self._loop.call_soon_threadsafe(self._put, chunks)

    def wishes(self) -> Iterator[Wish]:
        """Yield what browsers have asked for since the last call."""
        while self._wishes:
            yield self._wishes.popleft()

    def close(self, end: Mapping[str, Any]) -> None:
        """Tell everybody how the run ended, and stop serving."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._finish, dict(end))
            self._thread.join(3 * _LAST_WORDS_S)

    # In the thread of the server

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._ready.set()
            self._loop.close()

    async def _serve(self) -> None:
        from websockets.asyncio.server import serve

        quiet = logging.getLogger("stream.page.websockets")
        # Its lines would have the token in them; what is refused is counted here.
        quiet.setLevel(logging.CRITICAL + 1)
        async with serve(
            self._talk, sock=self._socket, process_request=self._answer, compression=None,
            max_size=_MOST_INCOMING_BYTES, ping_timeout=_SILENT_S, close_timeout=_LAST_WORDS_S,
            logger=quiet, server_header=None,
        ):  # fmt: skip
            self._ready.set()
            await self._ended.wait()
            end = self._loop.time() + _LAST_WORDS_S
            while self._connections and self._loop.time() < end:
                await asyncio.sleep(0.01)
            for connection in self._connections:
                # It takes nothing any more, so it would not take a farewell either.
                connection.transport.abort()

    def _put(self, chunks: Mapping[str, dict[str, Any]]) -> None:
        for name, chunk in chunks.items():
            self._rings[name].put(chunk)
        self._number += 1
        if self.clients:
            self._wake()

    def _finish(self, end: dict[str, Any]) -> None:
        self._end = end
        self._ended.set()
        self._wake()

    def _wake(self) -> None:
        async def notify() -> None:
            async with self._news:
                self._news.notify_all()

        task = self._loop.create_task(notify())
        task.add_done_callback(lambda _: None)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Serve a file, refuse, or let a WebSocket through."""
        from websockets.datastructures import Headers
        from websockets.http11 import Response

        host = request.headers.get("Host", "")
        status, reason, kind, body = HTTPStatus.FORBIDDEN, "", "text/plain", b""
        if host not in self._hosts:
            reason = "This page is only for browsers on the host of the run.\n"
        elif request.headers.get("Origin", f"http://{host}") != f"http://{host}":
            reason = "Another page may not ask this one.\n"
        elif not hmac.compare_digest(
            request.path[: len(self._prefix)].encode(), self._prefix.encode()
        ):
            reason = "This address lacks the token of the run; open the one that it printed.\n"
        else:
            name = request.path[len(self._prefix) :] or "index.html"
            if name == "live" and request.headers.get("Upgrade", "").lower() == "websocket":
                if self.clients < _MOST_CLIENTS:
                    return None
                status = HTTPStatus.SERVICE_UNAVAILABLE
                reason = f"{_MOST_CLIENTS} pages are open already; close one.\n"
            elif _FILE.fullmatch(name) and (_WEB / name).is_file():
                status, body = HTTPStatus.OK, (_WEB / name).read_bytes()
                kind = mimetypes.guess_type(name)[0] or "text/plain"
            else:
                status, reason = HTTPStatus.NOT_FOUND, "There is nothing at this address.\n"
        self.refused += status != HTTPStatus.OK
        body = body or reason.encode()
        headers = Headers(
            [
                ("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))),
                ("Connection", "close"), ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"),
                (
                    "Content-Security-Policy",
                    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:;"
                    f" connect-src 'self' ws://{host if host in self._hosts else HOST};"
                    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                ),
            ]
        )  # fmt: skip
        return Response(status, status.phrase, headers, body)

    async def _talk(self, connection: ServerConnection) -> None:
        from websockets.exceptions import ConnectionClosed

        client = _Client(self._rings)
        self._connections.add(connection)
        reader = asyncio.create_task(self._read(connection, client))
        try:
            await connection.send(_encode({"about": self._about}))
            await self._update(connection, client)
        except ConnectionClosed:
            pass
        finally:
            self._connections.discard(connection)
            reader.cancel()

    async def _read(self, connection: ServerConnection, client: _Client) -> None:
        """Take what a browser says: that it has drawn what it got, or what it wishes."""
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            async for said in connection:
                if said != DRAWN:
                    self._wish(said)
                    continue
                client.free = True
                self._wake()
        client.free = True
        self._wake()

    def _wish(self, said: str | bytes) -> None:
        try:
            wish = _read_wish(said)
        except msgspec.MsgspecError:
            self.refused += 1
            return
        if len(self._wishes) < _MOST_WISHES:
            self._wishes.append(wish)
        else:
            self.refused += 1

    async def _update(self, connection: ServerConnection, client: _Client) -> None:
        """Send updates, one after the other, until the run or the connection ends."""
        while not connection.close_code:
            due = self._loop.time() + 1 / UPDATES_HZ
            async with self._news:
                await self._news.wait_for(
                    lambda: self._end is not None or connection.close_code or self._waits(client)
                )
            client.free, client.number = False, self._number
            await connection.send(_encode(self._collect(client)))
            if self._end is not None:
                await connection.close()
                return
            await asyncio.sleep(max(0.0, due - self._loop.time()))

    def _waits(self, client: _Client) -> bool:
        """Tell whether a browser has drawn what it got, and there is more."""
        return client.free and self._number != client.number

    def _collect(self, client: _Client) -> dict[str, Any]:
        """Return what is new for a client."""
        streams = {}
        for name, ring in self._rings.items():
            seen = client.seen[name]
            if ring.total > seen:
                missed = ring.missed(seen)
                self.skipped += missed
                client.skipped += missed
                streams[name] = ring.after(seen)
                client.seen[name] = ring.total
        update: dict[str, Any] = {"streams": streams, "skipped": client.skipped}
        if self._end is not None:
            update["end"] = self._end
        return update


def _plain(chunk: dict[str, Any]) -> dict[str, Any]:
    """Make a JPEG of the frame of a chunk, if it has one."""
    frame = chunk.get("jpeg")
    if not isinstance(frame, np.ndarray):
        return chunk
    from stream.vision.opencv import load_cv2

    cv2 = load_cv2("The node 'page'")
    done = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    return {**chunk, "jpeg": done.tobytes()}
