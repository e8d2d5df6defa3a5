"""Sockets of a run: private to the user, and gone with the processes that had them."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import zmq


@contextmanager
def private_prefix(token: str) -> Iterator[str]:
    """Yield what the ZeroMQ addresses of a run begin with.

    On Linux these are abstract socket names, which leave no file behind however a process ends;
    elsewhere files in a folder that only this user may enter, removed at the end.
    """
    if sys.platform == "linux":
        yield f"ipc://@innervate-{token[:16]}-"
        return
    with tempfile.TemporaryDirectory(prefix="innervate-") as folder:
        yield f"ipc://{folder}/"


def bind_private(socket: zmq.Socket[Any], address: str) -> None:
    """Bind a socket so that no other user of this host can connect to it."""
    if sys.platform == "linux":
        # Abstract names have no file permissions: the kernel tells who connects instead.
        socket.setsockopt(zmq.IPC_FILTER_UID, os.getuid())
    socket.bind(address)
