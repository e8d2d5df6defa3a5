"""What readers and writers of recordings need to know of files and disks."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from stream.errors import MissingExtraError, RecordingError

MAX_BYTES = 8 * 2**30
"""Nothing larger than this is read into memory at once."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def has_utf8_name(path: Path) -> bool:
    """Say whether a path can be written into files of text and JSON, the folders above included."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def check_there(path: Path) -> None:
    """Check that a path is a file with something in it.

    Raises
    ------
    RecordingError
        It is not, may not be read, or has a name that cannot be noted.
    """
    if not has_utf8_name(path):
        raise RecordingError(
            f"{path}: the name of the file or a folder is not in UTF-8; rename it."
        )
    if not path.exists():
        raise RecordingError(f"{path} is not there.")
    if not path.is_file():
        raise RecordingError(f"{path} is not a file.")
    if not os.access(path, os.R_OK):
        raise RecordingError(f"{path} may not be read; ask for the permission to.")
    if path.stat().st_size == 0:
        raise RecordingError(f"{path} is empty (0 bytes).")


def check_pynwb(what: str) -> None:
    """Check that pynwb can be imported; `what` needs it.

    Raises
    ------
    MissingExtraError
        It is not installed.
    RecordingError
        It cannot make the folder of its cache, without which it does not load.
    """
    try:
        import pynwb  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(what, "nwb") from error
    except OSError as error:
        raise RecordingError(
            f"{what} needs a folder for the cache of pynwb, and {error.filename} cannot be made"
            f" ({error.strerror}); the variable XDG_CACHE_HOME says where caches lie."
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of what a library says about an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def free_space(path: Path) -> str:
    """Say how much room the disk has on which `path` lies, such as `1.2 GB free`."""
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        return f"free space unknown: {error.strerror}"
    return f"{format_bytes(free)} free on its disk"


def format_bytes(size: float) -> str:
    """Write a number of bytes as people read it, such as `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"
