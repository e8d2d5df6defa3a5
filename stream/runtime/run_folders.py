"""The folders that runs leave their logs in: a new one a run, old ones removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream.errors import ConfigError

KEPT = 50
"""So many of the newest folders stay, whatever is in them."""

_FOLDER = re.compile(r"\d{8}-\d{6}-[A-Za-z0-9_.-]+-\d+")
_LOG = re.compile(r"[A-Za-z0-9_-]+\.log")


@contextmanager
def run_folder(name: str, given: Path | None = None) -> Iterator[Path]:
    """Make the folder of a run and hold it while the run goes on.

    A folder that is not `given` is made in the user's state folder, where old ones that hold
    nothing but logs are removed then. Recordings and whatever else nodes have left are kept.

    Raises
    ------
    ConfigError
        The folder cannot be made.
    """
    folder = given or _runs() / _new_name(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the folder of the run, {folder}, cannot be made: {error.strerror}; the variable"
            " XDG_STATE_HOME says where such folders lie."
        ) from None
    # A file system that knows no locks is no reason not to run; nothing is removed there either.
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            held.enter_context(_lock(folder))
        if given is None:
            with contextlib.suppress(OSError):
                _remove_old(folder.parent)
        yield folder


def _runs() -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "innervate" / "runs"


def _new_name(pipeline: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", pipeline) or "pipeline"
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{safe}-{os.getpid()}"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder; the system drops it when the process dies."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _remove_old(runs: Path) -> None:
    # Names begin with the time.
    old = sorted(folder for folder in runs.iterdir() if _FOLDER.fullmatch(folder.name))[:-KEPT]
    for folder in old:
        # In use, another user's, or gone by now: all the same to this run.
        with contextlib.suppress(OSError), _lock(folder):
            files = list(folder.iterdir())
            if all(_LOG.fullmatch(file.name) and file.is_file() for file in files):
                for file in files:
                    file.unlink()
                folder.rmdir()
