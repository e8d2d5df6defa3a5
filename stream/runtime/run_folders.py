"""Folders that runs leave their logs in: a new one a run, old ones go, running ones are found."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from stream.errors import ConfigError
from stream.runtime.switching import Way

KEPT = 50
"""So many of the newest folders stay, whatever is in them."""

_FOLDER = re.compile(r"\d{8}-\d{6}-[A-Za-z0-9_.-]+-\d+")
_LOG = re.compile(r"[A-Za-z0-9_-]+\.log")
_ANNOUNCEMENT = "running.json"
REPORT = "report.json"
"""The report of a run in its folder."""


class Announcement(msgspec.Struct):
    """What a run tells of itself in its folder while it goes on.

    Attributes
    ----------
    pipeline, pid
        Name of the pipeline; process of the supervisor.
    status
        ZeroMQ address of the statistics, as in `Context.status_address`.
    switch
        How to arm and disarm its nodes.
    """

    pipeline: str
    pid: int
    status: str
    switch: Way


@contextmanager
def run_folder(name: str, given: Path | None = None) -> Iterator[Path]:
    """Make the folder of a run and hold it while the run goes on.

    A folder that is not `given` is made in the user's state folder, where old ones that hold
    nothing but logs and a report are removed then. Recordings and whatever else nodes have left
    are kept.

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


@contextmanager
def announced(folder: Path, pipeline: str, status: str, switch: Way) -> Iterator[None]:
    """Say in the folder of a run, which this process holds, where to watch it and how to ask it.

    Nobody but this user can read that.
    """
    file = folder / _ANNOUNCEMENT
    # A run that cannot be watched is still a run.
    with contextlib.suppress(OSError):
        # One that a killed run has left behind may have been readable for others.
        file.unlink(missing_ok=True)
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as opened:
            opened.write(msgspec.json.encode(Announcement(pipeline, os.getpid(), status, switch)))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def running() -> dict[Path, Announcement]:
    """Return the runs of this user that go on, by folder, the oldest first."""
    found = {}
    with contextlib.suppress(OSError):
        for folder in sorted(f for f in _runs().iterdir() if _FOLDER.fullmatch(f.name)):
            if (announcement := read_announcement(folder)) is not None:
                found[folder] = announcement
    return found


def find_run(run: str | None) -> tuple[Path, Announcement]:
    """Return the run that is meant by its folder or the name of its pipeline, or the only one.

    Raises
    ------
    ConfigError
        There is none, or there are several.
    """
    if run is not None and (found := read_announcement(Path(run))) is not None:
        return Path(run), found
    there = running()
    matching = {
        folder: found
        for folder, found in there.items()
        if run in (None, found.pipeline, folder.name)
    }
    if len(matching) == 1:
        return next(iter(matching.items()))
    listed = "".join(f"\n  {found.pipeline}: {folder}" for folder, found in there.items())
    if len(matching) > 1:
        raise ConfigError(f"several runs are going on; name the folder of one:{listed}")
    if run is None or not there:
        raise ConfigError(
            "no run of this user is going on; give the folder of one if it has its own."
        )
    raise ConfigError(f"no run '{run}' is going on; there are:{listed}")


def read_announcement(folder: Path) -> Announcement | None:
    """Return what a run tells of itself in its folder, None when no run goes on there."""
    try:
        found = msgspec.json.decode((folder / _ANNOUNCEMENT).read_bytes(), type=Announcement)
        # A run that was killed leaves the file behind, but not the lock. The file is written when
        # the lock is held, so that trying it takes it from no run that begins.
        with _lock(folder):
            return None
    except BlockingIOError:
        return found
    except (OSError, msgspec.MsgspecError):
        return None


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
            if all(_is_ours(file) for file in files):
                for file in files:
                    file.unlink()
                folder.rmdir()


def _is_ours(file: Path) -> bool:
    """Return whether a file is one that every run leaves."""
    ours = file.name in {_ANNOUNCEMENT, REPORT} or bool(_LOG.fullmatch(file.name))
    return ours and file.is_file()
