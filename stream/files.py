"""What every reader of recordings needs to know of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stream.errors import RecordingError

MAX_BYTES = 8 * 2**30
"""Nothing larger than this is read into memory at once."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_there(path: Path) -> None:
    """Check that a path is a file with something in it.

    Raises
    ------
    RecordingError
        It is not.
    """
    if not path.exists():
        raise RecordingError(f"{path} is not there.")
    if not path.is_file():
        raise RecordingError(f"{path} is not a file.")
    if path.stat().st_size == 0:
        raise RecordingError(f"{path} is empty (0 bytes).")


def first_line(error: Exception) -> str:
    """Return the first line of what a library says about an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
