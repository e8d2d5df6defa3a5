"""Text on its way to a terminal that may stall at any moment."""

from __future__ import annotations

import os
import threading
import time
from typing import Any, TextIO


class Outlet:
    """A text file whose writer never waits: a thread passes the text on.

    A terminal behind a broken connection takes part of a picture and then nothing more, which no
    question asked beforehand can foresee.

    Parameters
    ----------
    file
        Where the text goes. It must have a file descriptor, and nobody else may write to it.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._number = file.fileno()
        self._texts: list[str] = []
        self._writing = False
        self._error: OSError | None = None
        self._changed = threading.Condition()
        # A daemon: a write that never ends must not keep the process.
        threading.Thread(target=self._pass_on, name="terminal", daemon=True).start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    @property
    def idle(self) -> bool:
        """Whether everything has been taken, so that more may be written."""
        with self._changed:
            return not (self._texts or self._writing)

    def write(self, text: str) -> int:
        """Hand text over.

        Raises
        ------
        OSError
            Earlier text could not be written: the terminal was closed.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            self._texts.append(text)
            self._changed.notify_all()
        return len(text)

    def flush(self) -> None:
        """Do nothing: text is on its way as soon as it was handed over."""

    def wait(self, timeout_s: float) -> None:
        """Wait until everything has been taken, or not for longer than this.

        Raises
        ------
        OSError
            Text could not be written: the terminal was closed.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while (self._texts or self._writing) and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())
            if self._error is not None:
                raise self._error

    def _pass_on(self) -> None:
        while self._error is None:
            with self._changed:
                self._changed.wait_for(lambda: self._texts)
                data = "".join(self._texts).encode(self._file.encoding, "replace")
                self._texts.clear()
                self._writing = True
            error = None
            try:
                # Not through the file: its lock would be held when the process ends.
                while data:
                    data = data[os.write(self._number, data) :]
            except OSError as found:
                error = found
            with self._changed:
                self._error = error
                self._writing = False
                self._changed.notify_all()
