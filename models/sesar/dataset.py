"""Recorded skeletons as training sees them: sequences, who moves in them, and their splits."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import RecordingError
from stream.vision.skeleton_files import load_clip

ACTIONS = (
    "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down",
    "stand up", "donning", "doffing", "throw", "carry",
)  # fmt: skip
"""Classes of NW-UCLA in the order of its labels, 1 to 10."""
BACKGROUND = len(ACTIONS)
"""Class of what is none of them."""
CLASSES = (*ACTIONS, "background")
IGNORED = -1
"""Label of what is too much like one of the actions to be background, and yet another one."""

UCLA_FPS = 15.0
"""NW-UCLA states no frame rate. Its walkers take a median of 0.109 steps a frame (views 1 and 2);
people take about 1.7 steps a second indoors, so a frame lasts a fifteenth of a second, roughly."""
UTD_FPS = 30.0
MIN_FRAMES = 3
"""Shorter files of NW-UCLA hold no movement; there are two or three, as in published splits."""

_THROW, _SIT_DOWN, _STAND_UP = 5, 25, 24
_LIKE_AN_ACTION = frozenset({12, 21, 22, 23})  # bowling, pick up and throw, jogging and walking
_FROM_UTD = {_THROW: 8, _SIT_DOWN: 4, _STAND_UP: 5} | dict.fromkeys(_LIKE_AN_ACTION, IGNORED)
_UCLA_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(\d\d)")
_UTD_NAME = re.compile(r"a(\d+)_s(\d+)_t(\d+)_skeleton")


@dataclass(frozen=True)
class Sequences:
    """Segmented recordings of one person each.

    Attributes
    ----------
    frames
        (all frames, 20, 3) float32 in metres, y up, joints in the order of the Kinect; sequences
        lie end to end.
    start, length
        (sequences,) int64 first frame and number of frames.
    label
        (sequences,) int64 index into `CLASSES`, or `IGNORED`.
    subject, view, performance
        (sequences,) int64 who, from where, and a number that recordings of one performance share.
    fps
        (sequences,) float64.
    sha256
        Of the files that were read, in order of their names.
    """

    frames: NDArray[np.float32]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    label: NDArray[np.int64]
    subject: NDArray[np.int64]
    view: NDArray[np.int64]
    performance: NDArray[np.int64]
    fps: NDArray[np.float64]
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.start)

    def select(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Sequences:
        """Return some of the sequences, by mask or index; frames are shared."""
        columns: dict[str, Any] = {
            name: getattr(self, name)[chosen]
            for name in ("start", "length", "label", "subject", "view", "performance", "fps")
        }
        return replace(self, **columns)

    def joints(self, number: int) -> NDArray[np.float32]:
        """Return the frames of one sequence, (frames, 20, 3)."""
        first = self.start[number]
        return self.frames[first : first + self.length[number]]


def load_ucla(folder: Path) -> Sequences:
    """Read Northwestern-UCLA Multiview Action3D, a folder of JSON files.

    Files of fewer than `MIN_FRAMES` frames are left out.

    Raises
    ------
    RecordingError
        The folder holds no such files, or one that is not what its name says.
    """
    items = []
    for path, name in _files(folder, "*.json", _UCLA_NAME, "NW-UCLA (a01_s01_e00_v01.json)"):
        clip = load_clip(path)
        if clip.label is None or not 1 <= clip.label <= len(ACTIONS):
            raise RecordingError(f"{path} has the label {clip.label}; NW-UCLA has 1 to 10.")
        action, subject, episode, view = map(int, name.groups())
        performance = (action * 100 + subject) * 100 + episode
        items.append((path, clip.joints, clip.label - 1, subject, view, performance))
    return _join([item for item in items if len(item[1]) >= MIN_FRAMES], UCLA_FPS)


def load_utd(folder: Path) -> Sequences:
    """Read the skeletons of UTD-MHAD, a folder of MATLAB files, labelled in terms of `CLASSES`.

    Raises
    ------
    RecordingError
        The folder holds no such files, or one that is not what its name says.
    """
    items = []
    for path, name in _files(folder, "*.mat", _UTD_NAME, "UTD-MHAD (a1_s1_t1_skeleton.mat)"):
        action, subject, trial = map(int, name.groups())
        label = _FROM_UTD.get(action, BACKGROUND)
        performance = (action * 100 + subject) * 100 + trial
        items.append((path, load_clip(path).joints, label, subject, 1, performance))
    return _join(items, UTD_FPS)


def with_own_labels(utd: Sequences) -> Sequences:
    """Return UTD-MHAD with its own 27 actions as labels 0 to 26."""
    return replace(utd, label=utd.performance // 10_000 - 1)


def cross_view(ucla: Sequences) -> tuple[Sequences, Sequences]:
    """Return the published split of NW-UCLA: views 1 and 2 to learn from, view 3 to test on."""
    return ucla.select(ucla.view != 3), ucla.select(ucla.view == 3)


def odd_subjects(utd: Sequences) -> tuple[Sequences, Sequences]:
    """Return the published split of UTD-MHAD: odd subjects to learn from, even ones to test on."""
    return by_subject(utd, np.unique(utd.subject[utd.subject % 2 == 0]))


def by_subject(sequences: Sequences, held_out: Iterable[int]) -> tuple[Sequences, Sequences]:
    """Return the sequences of other subjects, and those of the subjects that are held out."""
    out = np.isin(sequences.subject, list(held_out))
    return sequences.select(~out), sequences.select(out)


def load_training_data(
    ucla_folder: Path, utd_folder: Path
) -> tuple[Sequences, Sequences, dict[str, Any]]:
    """Read what a recogniser is trained on, and what its card says of it.

    Returns
    -------
    actions
        Views 1 and 2 of NW-UCLA.
    background
        Odd subjects of UTD-MHAD.
    about
        `name`, `sha256`, `licence`, `folders`, counts.
    """
    ucla, utd = load_ucla(ucla_folder), load_utd(utd_folder)
    actions, _ = cross_view(ucla)
    background, _ = odd_subjects(utd)
    about = {
        "name": "NW-UCLA",
        "parts": "views 1 and 2; UTD-MHAD, odd subjects, as background",
        "sha256": ucla.sha256,
        "background_sha256": utd.sha256,
        "licence": "academic benchmarks: NW-UCLA, none stated; UTD-MHAD, free with citation",
        "folders": [str(ucla_folder.resolve()), str(utd_folder.resolve())],
        "sequences": len(actions),
        "background_sequences": len(background),
    }
    return actions, background, about


def _files(
    folder: Path, pattern: str, name: re.Pattern[str], what: str
) -> list[tuple[Path, re.Match[str]]]:
    """Return the files of a folder with what their names say."""
    found = []
    for path in sorted(folder.glob(pattern)) if folder.is_dir() else []:
        match = name.fullmatch(path.stem)
        if match is None:
            raise RecordingError(f"{path} is not named like a file of {what}; take it away.")
        found.append((path, match))
    if not found:
        raise RecordingError(f"{folder} holds no files of {what}.")
    return found


def _join(items: list[tuple[Path, NDArray[np.float32], int, int, int, int]], fps: float) -> (
    Sequences
):  # fmt: skip
    digest = hashlib.sha256()
    for path, frames, *_ in items:
        if not np.isfinite(frames).all():
            raise RecordingError(f"{path}: nobody is in view in some of its frames; take it away.")
        digest.update(path.read_bytes())
    length = np.array([len(frames) for _, frames, *_ in items], np.int64)
    label, subject, view, performance = np.array([item[2:] for item in items], np.int64).T
    return Sequences(
        frames=np.concatenate([frames for _, frames, *_ in items]),
        start=np.cumsum(length) - length,
        length=length,
        label=label,
        subject=subject,
        view=view,
        performance=performance,
        fps=np.full(len(items), fps),
        sha256=digest.hexdigest(),
    )
