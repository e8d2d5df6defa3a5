"""What somebody said about clips: a file of JSON lines that only ever grows."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import msgspec

from stream.errors import ConfigError, RecordingError
from stream.vision.actions import UNKNOWN

MOST_CLASSES = 35
"""As many as there are keys: 1 to 9, a to z."""
_MAX_NAME = 40
_MAX_BYTES = 64 << 20


def now() -> datetime:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


class _Event(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="event", forbid_unknown_fields=True
):
    time: datetime = msgspec.field(default_factory=now)


class Named(_Event, tag="class", frozen=True, kw_only=True):
    """There is a class of this name."""

    name: str = msgspec.field(name="class")


class Labelled(_Event, tag="label", frozen=True, kw_only=True):
    """A clip shows an action of this class."""

    clip: str
    name: str = msgspec.field(name="class")


class Skipped(_Event, tag="skip", frozen=True, kw_only=True):
    """Somebody would not say what a clip shows."""

    clip: str


class Undone(_Event, tag="undo", frozen=True, kw_only=True):
    """The last label or skip, which was that of this clip, is taken back."""

    clip: str


Event = Named | Labelled | Skipped | Undone
_decoder = msgspec.json.Decoder(Event)


class Labels:
    """What holds after some events.

    Parameters
    ----------
    clips
        Names of the clips that may be labelled.

    Attributes
    ----------
    classes
        Names in the order in which they came.
    history
        Labels and skips that were not taken back.
    """

    def __init__(self, clips: Collection[str]) -> None:
        self._clips = frozenset(clips)
        self.classes: list[str] = []
        self.history: list[Labelled | Skipped] = []

    def check(self, event: Event) -> None:
        """Refuse an event that cannot be.

        Raises
        ------
        ConfigError
            It names a clip or class that there is not, or a class that cannot be added, or takes
            back what was not the last.
        """
        if isinstance(event, Named):
            self._check_new(event.name)
            return
        if event.clip not in self._clips:
            raise ConfigError(f"there is no clip '{event.clip[:80]}' in the data of this session.")
        if isinstance(event, Labelled) and event.name not in self.classes:
            raise ConfigError(f"there is no class '{event.name[:80]}'; add it first.")
        if isinstance(event, Undone) and (not self.history or self.history[-1].clip != event.clip):
            raise ConfigError(f"'{event.clip}' was not the last to be labelled or skipped.")

    def _check_new(self, name: str) -> None:
        if not 1 <= len(name) <= _MAX_NAME or not name.isprintable() or name != name.strip():
            raise ConfigError(
                f"a class needs a name of 1 to {_MAX_NAME} printable characters without spaces"
                f" around it; found {name[:80]!r}."
            )
        if name.casefold() == UNKNOWN:
            raise ConfigError(
                f"'{UNKNOWN}' is what a recogniser says when it is not sure; name the class"
                " otherwise, or skip the clip."
            )
        if name.casefold() in (known.casefold() for known in self.classes):
            raise ConfigError(f"there is a class '{name}' already.")
        if len(self.classes) == MOST_CLASSES:
            raise ConfigError(f"there are {MOST_CLASSES} classes already, one for each key.")

    def apply(self, event: Event) -> None:
        """Take an event that `check` lets pass."""
        if isinstance(event, Named):
            self.classes.append(event.name)
        elif isinstance(event, Undone):
            self.history.pop()
        else:
            self.history.append(event)

    def latest(self) -> dict[str, Labelled | Skipped]:
        """Return the last label or skip of each clip that has one, the newest at the end."""
        found: dict[str, Labelled | Skipped] = {}
        for event in self.history:
            found.pop(event.clip, None)
            found[event.clip] = event
        return found

    def by_clip(self) -> dict[str, str]:
        """Return the class of each labelled clip."""
        return {
            clip: event.name for clip, event in self.latest().items() if isinstance(event, Labelled)
        }


class LabelFile:
    """The labels of a session on disk; each is there before anybody hears that it is.

    One process at a time may have it open.

    Raises
    ------
    ConfigError
        Another process has it open.
    RecordingError
        A line is damaged, or names a clip or class that there is not.
    """

    NAME: ClassVar[str] = "labels.jsonl"

    def __init__(self, folder: Path, clips: Collection[str]) -> None:
        self.path = folder / self.NAME
        self.labels = Labels(clips)
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise RecordingError(f"{self.path} cannot be opened ({error.strerror}).") from None
        try:
            self._lock()
            self._read()
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"another 'innervate label' has {self.path.parent} open; end that one, or open its"
                " page in a second window."
            ) from None

    def _read(self) -> None:
        size = os.fstat(self._fd).st_size
        if size > _MAX_BYTES:
            raise RecordingError(f"{self.path} has {size >> 20} MiB, more than labels can have.")
        text = self.path.read_bytes()
        if text and not text.endswith(b"\n"):
            number = text.count(b"\n") + 1
            raise RecordingError(
                f"line {number} of {self.path} breaks off; take it away, all before it is kept."
            )
        for number, line in enumerate(text.splitlines(), 1):
            try:
                event = _decoder.decode(line)
                self.labels.check(event)
            except (msgspec.MsgspecError, ConfigError) as error:
                reason = str(error).rstrip(".")
                raise RecordingError(
                    f"line {number} of {self.path} cannot be taken ({reason}); correct it or take"
                    " it away, or name all data of the session with --data."
                ) from None
            self.labels.apply(event)

    def append(self, event: Event) -> None:
        """Write an event to the disk, then let it hold.

        Raises
        ------
        ConfigError
            As for `Labels.check`; nothing is written.
        RecordingError
            The disk does not take it; nothing is changed.
        """
        self.labels.check(event)
        before = os.fstat(self._fd).st_size
        line = msgspec.json.encode(event) + b"\n"
        try:
            if os.write(self._fd, line) < len(line):
                raise OSError(0, "the disk is full")
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, before)
            raise RecordingError(
                f"the label could not be written to {self.path} ({error.strerror}); it does not"
                " hold."
            ) from None
        self.labels.apply(event)

    def close(self) -> None:
        """Let others open it."""
        os.close(self._fd)
