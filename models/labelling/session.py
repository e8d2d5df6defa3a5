"""A session of labelling: what is labelled, what comes next, and what is at work behind it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from models.labelling import store
from models.labelling.choosing import choose
from models.labelling.clips import Clips
from models.labelling.jobs import Advance, Done, Failed, Job, Message
from models.labelling.labels import Event, LabelFile, Labelled, Named, Skipped, Undone
from models.labelling.training import Effort, Lesson, prepare, train_round
from stream.errors import ConfigError

ENCODER, ROUNDS, MODEL = "encoder.npz", "rounds.jsonl", "actions.onnx"

Export = Callable[..., dict[str, Any]]
"""From the folder of a round, clips, a path for the model file and a report, to what to say."""


class OutdatedError(ConfigError):
    """A window asked for something that it would not have, had it known what another one did."""


class Session:
    """All that a page shows and asks for. Safe to call from several threads.

    Parameters
    ----------
    folder
        Of the session; labels that are there are kept.
    export
        Writes a model file; runs in a process of its own.

    Raises
    ------
    ConfigError, RecordingError
        As for `models.labelling.labels.LabelFile`; or past rounds cannot be read.
    """

    def __init__(self, folder: Path, clips: Clips, effort: Effort, export: Export) -> None:
        self.clips = clips
        self._folder = folder
        self._effort = effort
        self._export = export
        self._lock = threading.RLock()
        self._version = 0
        self._queue: list[str] = []
        self._classes: tuple[str, ...] = ()
        self._job: Job | None = None
        self._kind = ""
        self._advance: Advance | None = None
        self._problem = ""
        self._exported: dict[str, Any] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._file = LabelFile(folder, clips.names)
        try:
            self._all_rounds = store.load_rounds(folder / ROUNDS)
            self._encoder = store.load_arrays(folder / ENCODER, clips.sequences.sha256)
            self._read_likely()
        except BaseException:
            self._file.close()
            raise
        if self._encoder is None:
            with self._lock:
                self._begin("prepare", prepare, folder / ENCODER, clips, effort)

    def label(self, clip: str, name: str, was: str | None) -> None:
        """Say what a clip shows.

        Parameters
        ----------
        was
            The class that the asking window believes it to have.

        Raises
        ------
        OutdatedError
            It has another one by now.
        ConfigError, RecordingError
            As for `LabelFile.append`.
        """
        with self._lock:
            self._check_known(clip, was)
            self._append(Labelled(clip=clip, name=name))

    def skip(self, clip: str, was: str | None) -> None:
        """Say nothing of a clip; see `label`."""
        with self._lock:
            self._check_known(clip, was)
            self._append(Skipped(clip=clip))

    def undo(self, clip: str) -> None:
        """Take back the last label or skip, which must be that of this clip; it comes next."""
        with self._lock:
            self._append(Undone(clip=clip))
            if clip not in self._file.labels.latest():
                self._queue.insert(0, clip)

    def add_class(self, name: str) -> None:
        """Add a class."""
        with self._lock:
            self._append(Named(name=name))

    def train(self) -> None:
        """Begin a round of training.

        Raises
        ------
        ConfigError
            Something is at work, or there is too little to learn from.
        """
        with self._lock:
            reason = self._why_not_train()
            if reason:
                raise ConfigError(reason)
            assert self._encoder is not None
            used = self._learned_classes()
            self._classes = tuple(name for name in self._file.labels.classes if name in used)
            lesson = Lesson(
                self._encoder, self._file.labels.by_clip(), self._classes, self._effort,
                self._folder.resolve().name,
            )  # fmt: skip
            folder = self._round_folder(len(self._all_rounds) + 1)
            self._begin("train", train_round, folder, self.clips, lesson)

    def export(self) -> None:
        """Begin to write the model file of the last round.

        Raises
        ------
        ConfigError
            Something is at work, or nothing is trained.
        """
        with self._lock:
            reason = self._busy() or ("" if self.rounds else "train a round first.")
            if reason:
                raise ConfigError(reason)
            trained = self._round_folder(self.rounds[-1].number)
            self._begin("export", self._export, trained, self.clips, self._folder / MODEL)

    @property
    def rounds(self) -> list[store.Round]:
        """Rounds on the clips of this session as they are now."""
        sha256 = self.clips.sequences.sha256
        return [done for done in self._all_rounds if done.sha256 == sha256]

    def state(self, since: int = -1) -> dict[str, Any] | None:
        """Return all that a page shows but the clips themselves; None if nothing is new."""
        with self._lock:
            if since == self._version:
                return None
            labels = self._file.labels
            latest = labels.latest()
            by_clip = labels.by_clip()
            held_out = {self.clips.names[i] for i in self.clips.held_out.nonzero()[0]}
            named = list(by_clip.values())
            if self._encoder is not None and not self._queue:
                self._fill()
            return {
                "version": self._version,
                "session": str(self._folder),
                "clips": len(self.clips.names),
                "left_out": self.clips.left_out,
                "classes": [{"name": n, "count": named.count(n)} for n in labels.classes],
                "labels": len(named),
                "held_out": sum(clip in held_out for clip in by_clip),
                "skipped": len(latest) - len(named),
                "history": [
                    {
                        "clip": clip,
                        "class": event.name if isinstance(event, Labelled) else None,
                        "held_out": clip in held_out,
                    }
                    for clip, event in reversed(latest.items())
                ],
                "undo": labels.history[-1].clip if labels.history else None,
                "queue": self._queue[:2],
                "job": self._kind and {
                    "kind": self._kind,
                    **(msgspec.to_builtins(self._advance) if self._advance else {}),
                },
                "problem": self._problem,
                "rounds": [_shown(done) for done in self.rounds],
                "cannot_train": self._why_not_train(),
                "exported": self._exported,
            }  # fmt: skip

    def close(self) -> None:
        """End what is at work, and let others open the session."""
        with self._lock:
            job, self._job = self._job, None
        if job is not None:
            job.stop()
        with self._lock:
            self._file.close()

    def _append(self, event: Event) -> None:
        self._file.append(event)
        if isinstance(event, Labelled | Skipped) and event.clip in self._queue:
            self._queue.remove(event.clip)
        self._version += 1

    def _check_known(self, clip: str, was: str | None) -> None:
        now = self._file.labels.by_clip().get(clip)
        if now != was:
            raise OutdatedError(
                f"another window has meanwhile said '{now}' of '{clip}'."
                if now
                else f"another window has meanwhile taken the label of '{clip}' back."
            )

    def _round_folder(self, number: int) -> Path:
        return self._folder / f"round-{number:03}"

    def _read_likely(self) -> None:
        self._likely: NDArray[np.float64] | None = None
        if self.rounds:
            arrays = store.load_arrays(self._round_folder(self.rounds[-1].number) / "likely.npz")
            self._likely = None if arrays is None else arrays["probabilities"]

    def _fill(self) -> None:
        """Choose what comes next; the clip that is being looked at stays."""
        assert self._encoder is not None
        shown = self._queue[:1]
        seen = {*self._file.labels.latest(), *shown}
        self._queue = shown + choose(self.clips, seen, self._encoder["latents"], self._likely)

    def _busy(self) -> str:
        return f"wait until '{self._kind}' is done." if self._kind else ""

    def _why_not_train(self) -> str:
        if self._encoder is None or self._kind:
            return self._busy() or "what the clips have in common is not known yet."
        return "" if len(self._learned_classes()) > 1 else "label clips of two classes first."

    def _learned_classes(self) -> set[str]:
        """Return the classes of labels that are learned from."""
        learnable = {self.clips.names[i] for i in self.clips.learnable}
        return {name for clip, name in self._file.labels.by_clip().items() if clip in learnable}

    def _begin(self, kind: str, work: Callable[..., dict[str, Any]], *arguments: Any) -> None:
        self._kind, self._advance, self._problem = kind, None, ""
        self._version += 1
        self._job = Job(work, arguments, self._hear)

    def _hear(self, message: Message) -> None:
        with self._lock:
            if self._job is None:
                return  # the session is being closed
            self._version += 1
            if isinstance(message, Advance):
                self._advance = message
                return
            kind, self._kind = self._kind, ""
            if isinstance(message, Failed):
                self._problem = f"{kind}: {message.reason}"
                return
            try:
                self._finish(kind, message)
            except Exception as error:  # a full disk, a file that somebody took away
                self._problem = f"{kind}: {error}"

    def _finish(self, kind: str, done: Done) -> None:
        if kind == "prepare":
            self._encoder = store.load_arrays(self._folder / ENCODER, self.clips.sequences.sha256)
        elif kind == "export":
            self._exported = {"round": self.rounds[-1].number, **done.found}
        else:
            before = [self._round_folder(old.number) for old in self._all_rounds]
            new = store.Round(
                number=len(self._all_rounds) + 1,
                classes=self._classes,
                sha256=self.clips.sequences.sha256,
                **done.found,
            )
            store.append_round(self._folder / ROUNDS, new)
            self._all_rounds.append(new)
            for folder in before:
                shutil.rmtree(folder, ignore_errors=True)
            self._read_likely()
            self._fill()


def _shown(done: store.Round) -> dict[str, Any]:
    """Return a round with its accuracy and the 95 % interval that so few labels leave (Wilson)."""
    found = {"number": done.number, "labels": done.labels, "held_out": done.held_out}
    if not done.held_out:
        return found
    interval = binomtest(done.right, done.held_out).proportion_ci(method="wilson")
    accuracy = done.right / done.held_out
    return found | {"accuracy": accuracy, "low": float(interval.low), "high": float(interval.high)}
