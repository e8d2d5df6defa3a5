"""The page's server: on this host only, and only for who has the token."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np

from models.labelling.session import OutdatedError, Session
from stream.errors import ConfigError, InnervateError
from stream.vision.layouts import KINECT_20

_PAGE = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8", ".mp4": "video/mp4", ".webm": "video/webm",
}  # fmt: skip
_MAX_BODY = 4096
_PIECE = 1 << 16
_QUIET_S = 30.0
_SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    pass


class _Clip(_Request):
    clip: str


class _Skip(_Clip):
    was: str | None


class _Label(_Request):
    clip: str
    name: str
    was: str | None


class _Name(_Request):
    name: str


_ACTIONS: dict[str, tuple[type[_Request], Callable[[Session, Any], None]]] = {
    "/api/label": (_Label, lambda session, ask: session.label(ask.clip, ask.name, ask.was)),
    "/api/skip": (_Skip, lambda session, ask: session.skip(ask.clip, ask.was)),
    "/api/undo": (_Clip, lambda session, ask: session.undo(ask.clip)),
    "/api/class": (_Name, lambda session, ask: session.add_class(ask.name)),
    "/api/train": (_Request, lambda session, ask: session.train()),
    "/api/export": (_Request, lambda session, ask: session.export()),
}


class LabelServer(ThreadingHTTPServer):
    """Serves the page of one session at `url`, which holds the token."""

    daemon_threads = True

    def __init__(self, session: Session) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.session = session
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: LabelServer
    protocol_version = "HTTP/1.1"
    timeout = _QUIET_S

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, *_: Any) -> None:
        """Print nothing: addresses hold the token."""

    def _answer(self, serve: Callable[[], None]) -> None:
        try:
            url = urlsplit(self.path)
            self._route, self._query = url.path, parse_qs(url.query)
            self._check_sender()
            serve()
        except _RefusedError as refused:
            self.close_connection = True  # what is left of a refused body is not read
            self._send_json({"error": str(refused)}, refused.status)
        except InnervateError as error:
            status = HTTPStatus.BAD_REQUEST
            if isinstance(error, OutdatedError):
                status = HTTPStatus.CONFLICT
            elif not isinstance(error, ConfigError):
                status = HTTPStatus.INTERNAL_SERVER_ERROR
            self._send_json({"error": str(error)}, status)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def _check_sender(self) -> None:
        """Refuse who came by another name (DNS rebinding), from another page, or has no token."""
        host = self.headers.get("Host", "")
        if host not in self.server.hosts:
            raise _RefusedError(HTTPStatus.FORBIDDEN, f"this host is not called '{host[:80]}'.")
        if self.headers.get("Origin", f"http://{host}") != f"http://{host}":
            raise _RefusedError(HTTPStatus.FORBIDDEN, "another page may not ask this one.")
        if self._route in {"/label.js", "/drawing.js", "/label.css"}:
            return  # the browser asks for these itself; they tell nothing of the session
        given = self.headers.get("X-Token") or (self._query.get("token") or [""])[0]
        if not hmac.compare_digest(given.encode(), self.server.token.encode()):
            raise _RefusedError(
                HTTPStatus.FORBIDDEN,
                "this address lacks the token of the session; open the one that"
                " 'innervate label' printed when it started last.",
            )

    def _get(self) -> None:
        session = self.server.session
        if self._route == "/api/state":
            since = _number((self._query.get("since") or [""])[0])
            state = session.state(-1 if since is None else since)
            if state is None:
                self._send(HTTPStatus.NO_CONTENT, "", b"")
            else:
                self._send_json(state)
        elif self._route == "/api/clip":
            self._send_json(_clip(session, self._clip_name()))
        elif self._route == "/api/video":
            self._send_video(session.clips.videos.get(self._clip_name()))
        else:
            file = _PAGE / (self._route.removeprefix("/") or "index.html")
            if file.parent != _PAGE or not file.is_file():
                raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing at this address.")
            self._send(HTTPStatus.OK, _TYPES[file.suffix], file.read_bytes())

    def _post(self) -> None:
        if self._route not in _ACTIONS:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is nothing at this address.")
        kind, act = _ACTIONS[self._route]
        length = _number(self.headers.get("Content-Length", ""))
        if length is None:
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED, "a request must state its length.")
        if length > _MAX_BODY:
            raise _RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"a request of {length} bytes is too long; {_MAX_BODY} are read.",
            )
        try:
            ask = msgspec.json.decode(self.rfile.read(length), type=kind)
        except msgspec.MsgspecError as error:
            raise _RefusedError(
                HTTPStatus.BAD_REQUEST, f"a request cannot be read ({error})."
            ) from None
        act(self.server.session, ask)
        self._send_json(self.server.session.state())

    def _clip_name(self) -> str:
        name = (self._query.get("name") or [""])[0]
        if name not in self.server.session.clips.names:
            raise _RefusedError(HTTPStatus.NOT_FOUND, f"there is no clip '{name[:80]}'.")
        return name

    def _send_json(self, content: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(status, "application/json", msgspec.json.encode(content))

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self._begin(status, kind, len(body), {})
        self.wfile.write(body)

    def _begin(self, status: HTTPStatus, kind: str, length: int, more: dict[str, str]) -> None:
        self.send_response(status)
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
        for name, value in (_SAFE | more).items():
            self.send_header(name, value)
        self.end_headers()

    def _send_video(self, path: Path | None) -> None:
        if path is None or not path.is_file():
            raise _RefusedError(HTTPStatus.NOT_FOUND, "there is no video of this clip.")
        size = path.stat().st_size
        first, last = _range(self.headers.get("Range", ""), size)
        more = {"Accept-Ranges": "bytes"}
        status = HTTPStatus.OK
        if (first, last) != (0, size - 1):
            status = HTTPStatus.PARTIAL_CONTENT
            more["Content-Range"] = f"bytes {first}-{last}/{size}"
        with path.open("rb") as file:
            self._begin(status, _TYPES[path.suffix], last - first + 1, more)
            file.seek(first)
            self._copy(file, last - first + 1)

    def _copy(self, file: BinaryIO, left: int) -> None:
        while left and (piece := file.read(min(_PIECE, left))):
            self.wfile.write(piece)
            left -= len(piece)


def _range(text: str, size: int) -> tuple[int, int]:
    """Return first and last byte that a browser asks for; all of them if it asks otherwise."""
    begin, dash, end = text.removeprefix("bytes=").partition("-")
    first, last = _number(begin), _number(end)
    if not (text.startswith("bytes=") and dash) or first is None or first >= size:
        return 0, size - 1
    return first, size - 1 if last is None else max(first, min(last, size - 1))


def _number(text: str) -> int | None:
    """Read a whole number of up to 18 digits, None if it is none."""
    return int(text) if text.isdecimal() and len(text) <= 18 else None


def _clip(session: Session, name: str) -> dict[str, Any]:
    """Return what the page draws of a clip; joints in whole millimetres."""
    number = session.clips.index(name)
    joints = np.rint(1000 * session.clips.sequences.joints(number)).astype(int)
    return {
        "name": name,
        "fps": float(session.clips.sequences.fps[number]),
        "joints_mm": joints.reshape(len(joints), -1).tolist(),
        "names": KINECT_20.joints,
        "edges": KINECT_20.edges.tolist(),
        "video": name in session.clips.videos,
    }
