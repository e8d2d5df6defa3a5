"""What a process does for as long as a run goes on: where its log goes, and what ends it."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def logged(log: logging.Logger, file: Path) -> Iterator[None]:
    """Write a log to a file meanwhile: the terminal belongs to the console view."""
    handler = logging.FileHandler(file, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
        handler.close()


@contextmanager
def ending_signals(handler: Callable[[], None]) -> Iterator[None]:
    """Send Ctrl-C, SIGTERM and SIGHUP to the run, when this is the thread that receives them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # A closed terminal ends a run as well, unless that is ignored, as under nohup.
    numbers = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None))
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = [signal.signal(number, lambda *_: handler()) for number in numbers]
    try:
        yield
    finally:
        for number, previous in zip(numbers, before, strict=True):
            signal.signal(number, previous)
