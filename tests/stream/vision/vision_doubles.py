"""Doubles of cameras and videos: frames that show their number, a camera in a network."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

_BITS = 8


def numbered(number: int, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    """A frame that shows its number as black and white stripes, which survive compression."""
    width, height = size
    bits = [(number >> bit) & 1 for bit in range(_BITS)]
    columns = np.repeat(bits, -(-width // _BITS))[:width]
    return np.tile((columns * 255).astype(np.uint8)[None, :, None], (height, 1, 3))


def number_of(frame: np.ndarray) -> int:
    """Read the number that `numbered` painted."""
    width = frame.shape[1]
    step = width / _BITS
    middle = frame[frame.shape[0] // 2, :, 0]
    return sum(int(middle[int((bit + 0.5) * step)] > 127) << bit for bit in range(_BITS))


class MjpegCamera:
    """A camera in a network, as many are: motion JPEG over HTTP, on this host.

    Every connection plays `script`: a frame to send, a function to call (which may wait), bytes
    that are sent as a picture though they are none; at its end the connection closes. `frames` of
    a connection can be endless. `connections` counts them.
    """

    def __init__(self, script: Callable[[int], Iterable[Any]]) -> None:
        self.script = script
        self.connections = 0
        self.closing = threading.Event()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None:
                """Keep the tests' output clean."""

            def do_GET(self) -> None:
                connection = camera.connections
                camera.connections += 1
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(OSError):
                    for item in camera.script(connection):
                        if camera.closing.is_set():
                            return
                        if callable(item):
                            item()
                        else:
                            self._send(item)

            def _send(self, item: Any) -> None:
                import cv2

                picture = item
                if isinstance(item, np.ndarray):
                    picture = cv2.imencode(".jpg", item)[1].tobytes()
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                self.wfile.write(head % len(picture) + picture + b"\r\n")

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/video.mjpg"

    def pause(self, seconds: float = 0.02) -> None:
        """Wait for the time between two frames, or until the test is over."""
        self.closing.wait(seconds)

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
