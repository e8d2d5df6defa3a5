"""The newest lines of the logs of a run."""

from __future__ import annotations

import os
from pathlib import Path

MOST = 200
"""How many lines are handed over at once, and kept by the page."""

_MOST_BYTES = 32 * 1024
_MOST_CHARACTERS = 400


class LogLines:
    """Follows the logs in the folder of a run.

    Attributes
    ----------
    skipped
        Bytes that came faster than they are read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self.skipped = 0

    def take(self) -> list[tuple[str, str]]:
        """Return the lines since the last call, each with the name of its log (of its process).

        Lines are cut after 400 characters; of very many the newest are returned.
        """
        lines: list[tuple[str, str]] = []
        for path in sorted(self._folder.glob("*.log")):
            lines += ((path.stem, line) for line in self._new(path))
        return lines[-MOST:]

    def _new(self, path: Path) -> list[str]:
        begin = self._read.get(path, 0)
        try:
            if path.stat().st_size <= begin:
                return []
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                first = max(begin, size - _MOST_BYTES)
                file.seek(first)
                data = file.read(_MOST_BYTES)
        except OSError:
            return []
        self.skipped += first - begin
        # A line that is not finished is left for the next time, unless it is far too long.
        whole = len(data) if len(data) == _MOST_BYTES else data.rfind(b"\n") + 1
        self._read[path] = first + whole
        text = data[:whole].decode(errors="replace")
        return [line[:_MOST_CHARACTERS] for line in text.splitlines() if line.strip()]
