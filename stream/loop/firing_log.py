"""The log of firings: one JSON object a line, in the folder of the run."""

from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

_log = logging.getLogger(__name__)


class FiringLog:
    """Writes firings as they happen; each line is with the system before the next packet comes.

    A line that cannot be written is counted, and the first one is logged; the loop goes on.

    Attributes
    ----------
    lost
        Lines that could not be written, since `count_lost` was last asked.
    """

    def __init__(self, path: Path) -> None:
        """Begin the file, or go on with it.

        Raises
        ------
        OSError
            It cannot be opened.
        """
        self.path = path
        self.lost = 0
        self._failed = self._torn = False
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, firing: dict[str, Any]) -> None:
        """Write one firing; `time` (UTC, ISO 8601) is added."""
        line = {"time": datetime.now(UTC).isoformat(timespec="microseconds"), **firing}
        # After a part of a line a new one is begun, or both could not be read.
        data = b"\n" * self._torn + msgspec.json.encode(line) + b"\n"
        try:
            written = os.write(self._fd, data)
            self._torn = self._torn if not written else written < len(data)
            error = "" if written == len(data) else "the disk took only a part of a line"
        except OSError as failure:
            error = failure.strerror or str(failure)
        if error:
            if not self._failed:
                _log.error("firings can no longer be written to %s: %s", self.path, error)
            self._failed = True
            self.lost += 1

    def count_lost(self) -> int:
        """Return how many lines were lost since this was last asked."""
        lost, self.lost = self.lost, 0
        return lost

    def close(self) -> None:
        """Close the file; one without firings is removed."""
        os.close(self._fd)
        if not self.path.stat().st_size:
            self.path.unlink()
