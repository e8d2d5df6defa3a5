"""A page on this host that shows the newest picture of a node."""

from __future__ import annotations

import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from stream.errors import ConfigError
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

_HOST = "127.0.0.1"
_PAGE = Path(__file__).with_name("page.html")
_PATIENCE_S = 2.0
_QUIET_S = 30.0
_QUALITY = 85
_WATCHED_NS = 1_000_000_000
_SAFE = {
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline';"
    " style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def address_of(port: int) -> str:
    """Return what to open."""
    return f"http://{_HOST}:{port}/"


def check_port(port: int) -> None:
    """Refuse a port that cannot be had, before anything starts.

    Raises
    ------
    ConfigError
        It is taken, or may not be used.
    """
    with socket.socket() as probe:
        # As the server does: a port that a run has just left may be taken again at once.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError as error:
            raise _taken(port, error) from None


def _taken(port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"page: port {port} cannot be used ({error.strerror}); another run may have it, choose"
        " another number."
    )


class PictureServer:
    """Serves the page at `http://127.0.0.1:PORT/`, to browsers on this host only.

    A browser asks for a picture that is newer than the one it has and waits for it, so that each
    gets as many as it can show, and a slow one slows nobody. Nothing is encoded while none looks.

    Attributes
    ----------
    address
        What to open.
    closed
        Whether no picture will come any more.
    """

    def __init__(self, port: int) -> None:
        """Begin to serve.

        Raises
        ------
        ConfigError
            The port is taken, or may not be used.
        """
        self._picture: bytes | None = None
        self._number = 0
        self._waiting = 0
        self._asked_ns = 0
        self.closed = False
        self._changed = threading.Condition()
        try:
            self._server = _Server(port, self)
        except OSError as error:
            raise _taken(port, error) from None
        self.address = address_of(self._server.server_port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="page", daemon=True
        )
        self._thread.start()

    def show(self, picture: Frame) -> None:
        """Give a picture (height, width, 3) to everybody who waits for one."""
        with self._changed:
            if not self._waiting and time.monotonic_ns() - self._asked_ns > _WATCHED_NS:
                # Whoever comes next waits for the next one rather than get an old one.
                self._picture = None
                return
        cv2 = load_cv2("The node 'overlay'")
        encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        with self._changed:
            self._picture = encoded
            self._number += 1
            self._changed.notify_all()

    def newer(self, number: int) -> tuple[int, bytes] | None:
        """Wait for a picture after the one of this number; None when none comes for 2 s."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: self.closed or self._has(number), _PATIENCE_S)
            finally:
                self._waiting -= 1
                self._asked_ns = time.monotonic_ns()
            if self.closed or self._picture is None or self._number <= number:
                return None
            return self._number, self._picture

    def _has(self, number: int) -> bool:
        return self._picture is not None and self._number > number

    def close(self) -> None:
        """Send everybody away and give the port back."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, pictures: PictureServer) -> None:
        super().__init__((_HOST, port), _Handler)
        self.pictures = pictures
        self.hosts = {f"{name}:{self.server_port}" for name in (_HOST, "localhost")}


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _QUIET_S

    def do_GET(self) -> None:
        try:
            self._get()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Print nothing: the log is for what goes wrong."""

    def _get(self) -> None:
        # Under another name (DNS rebinding) and from other pages, the camera would be theirs, too.
        own = self.headers.get("Host", "") in self.server.hosts
        if not own or self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", b"This page is for this host only.\n")
            return
        url = urlsplit(self.path)
        if url.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", _PAGE.read_bytes())
        elif url.path == "/picture":
            self._send_picture((parse_qs(url.query).get("after") or [""])[0])
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"There is nothing at this address.\n")

    def _send_picture(self, after: str) -> None:
        pictures = self.server.pictures
        number = int(after) if after.isdecimal() and len(after) <= 18 else 0
        found = pictures.newer(number)
        if pictures.closed:
            # The connection would stay open, and its browser ask on.
            self.close_connection = True
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"The run has ended.\n")
        elif found is None:
            self._send(HTTPStatus.NO_CONTENT, "", b"", {"X-Waited-S": f"{_PATIENCE_S:g}"})
        else:
            self._send(HTTPStatus.OK, "image/jpeg", found[1], {"X-Number": str(found[0])})

    def _send(
        self, status: HTTPStatus, kind: str, body: bytes, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        for name, value in (_SAFE | (more or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
