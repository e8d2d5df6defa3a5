"""What a session labels: clips of skeletons, which of them only measure, and what was left out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.sesar.dataset import IGNORED, MIN_FRAMES, Sequences
from stream.errors import ConfigError, RecordingError
from stream.vision.layouts import (
    KINECT_20,
    MEDIAPIPE_33,
    UTD_MHAD_20,
    kinect_from_mediapipe,
    reorder,
)
from stream.vision.skeleton_files import SkeletonClip, load_clip

HELD_OUT_SHARE = 0.2
"""Share of the clips whose labels are never learned from; they measure."""
_FORMATS = (".json", ".mat", ".npz")
_VIDEOS = (".mp4", ".webm")  # what browsers play
_MAX_CLIPS = 5000  # rules compare every clip with every other one
_MAX_S = 60.0
_REGULAR = 0.01
_FASTEST_HZ = 120.0


@dataclass(frozen=True)
class Clips:
    """The clips of a session, in the order of their names.

    Attributes
    ----------
    names
        File names without their endings, each once.
    sequences
        The same clips for training; labels are `IGNORED`.
    held_out
        (clips,) bool: whose labels only measure.
    videos
        Where a video of the same name lies beside the file.
    left_out
        Files that cannot be labelled, and why.
    """

    names: tuple[str, ...]
    sequences: Sequences
    held_out: NDArray[np.bool_]
    videos: dict[str, Path] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def index(self, name: str) -> int:
        """Return where a clip stands.

        Raises
        ------
        ValueError
            There is no such clip.
        """
        return self.names.index(name)

    @property
    def learnable(self) -> NDArray[np.int64]:
        """Indices of the clips that are learned from, with or without a label."""
        return np.flatnonzero(~self.held_out)


def load_session_clips(paths: Iterable[Path], rate_hz: float | None) -> Clips:
    """Read files of skeletons, and those in folders.

    Clips that are too short, too long or show nobody for a while are left out, with the reason.

    Parameters
    ----------
    rate_hz
        Of files that hold no times.

    Raises
    ------
    RecordingError
        A file cannot be read.
    ConfigError
        Two clips have one name, there are too few or too many, or a rate is missing.
    """
    files = sorted((file for path in paths for file in _files(path)), key=lambda file: file.stem)
    for one, other in pairwise(files):
        if one.stem == other.stem:
            raise ConfigError(
                f"{one} and {other} are both called '{one.stem}', and labels go by that name;"
                " rename one of them."
            )
    if len(files) > _MAX_CLIPS:
        raise ConfigError(
            f"there are {len(files)} clips; a session takes {_MAX_CLIPS}. Choose a part of them."
        )
    kept: dict[str, tuple[NDArray[np.float32], float]] = {}
    left_out = {}
    for file in files:
        clip = load_clip(file)
        reason = _unfit(clip, rate_hz)
        if reason:
            left_out[file.stem] = reason
        else:
            kept[file.stem] = _regular(_as_kinect(clip, file), rate_hz)
    if len(kept) < 3:
        why = "".join(f"; '{name}' {reason}" for name, reason in list(left_out.items())[:3])
        raise ConfigError(f"there are {len(kept)} clips to label, and it takes three{why}.")
    names = tuple(kept)
    return Clips(
        names,
        _sequences(list(kept.values())),
        _drawn(names),
        {file.stem: video for file in files for video in _video(file)},
        left_out,
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in path.iterdir()
        if file.suffix.lower() in _FORMATS and not file.name.startswith(".")
    ]
    if not found:
        raise RecordingError(f"{path} holds no recorded skeleton ({', '.join(_FORMATS)}).")
    return found


def _video(file: Path) -> list[Path]:
    beside = (file.with_suffix(ending) for ending in _VIDEOS)
    return [video for video in beside if video.is_file()][:1]


def _unfit(clip: SkeletonClip, rate_hz: float | None) -> str:
    """Say why a clip cannot be labelled, nothing if it can."""
    if len(clip.joints) < MIN_FRAMES:
        return f"has {len(clip.joints)} frames, fewer than {MIN_FRAMES}"
    if np.isnan(clip.joints).any():
        return "shows nobody in some of its frames; cut these off"
    if clip.times_s is not None:
        lasts_s = float(clip.times_s[-1] - clip.times_s[0])
    elif rate_hz is None:
        raise ConfigError(
            f"{clip.name} does not say when its frames were taken; give --rate, such as '30 Hz'."
        )
    else:
        lasts_s = (len(clip.joints) - 1) / rate_hz
    return f"lasts {lasts_s:.0f} s, more than {_MAX_S:.0f} s; cut it" if lasts_s > _MAX_S else ""


def _as_kinect(clip: SkeletonClip, file: Path) -> SkeletonClip:
    if clip.layout == KINECT_20:
        return clip
    if clip.layout == MEDIAPIPE_33:
        joints = kinect_from_mediapipe(clip.joints)
    elif clip.layout == UTD_MHAD_20:
        joints = reorder(clip.joints, UTD_MHAD_20, KINECT_20)
    else:
        raise RecordingError(
            f"{file} has the layout {clip.layout.name}; a recogniser of actions needs a whole body"
            f" ({KINECT_20.name}, {MEDIAPIPE_33.name} or {UTD_MHAD_20.name})."
        )
    return SkeletonClip(clip.name, joints, KINECT_20, clip.times_s)


def _regular(clip: SkeletonClip, rate_hz: float | None) -> tuple[NDArray[np.float32], float]:
    """Return joints at even steps and their rate; uneven frames are interpolated."""
    times_s = clip.times_s
    if times_s is None:
        assert rate_hz is not None
        return clip.joints, rate_hz
    steps_s = np.diff(times_s)
    step_s = float(np.median(steps_s))
    if (np.abs(steps_s - step_s) <= _REGULAR * step_s).all():
        return clip.joints, 1 / step_s
    step_s = max(step_s, 1 / _FASTEST_HZ)
    at_s = np.arange(times_s[0], times_s[-1], step_s)
    columns = clip.joints.reshape(len(times_s), -1).T
    even = np.stack([np.interp(at_s, times_s, column) for column in columns], axis=1)
    return even.reshape(len(at_s), *clip.joints.shape[1:]).astype(np.float32), 1 / step_s


def _sequences(items: list[tuple[NDArray[np.float32], float]]) -> Sequences:
    frames = np.concatenate([joints for joints, _ in items])
    length = np.array([len(joints) for joints, _ in items], np.int64)
    nobody = np.zeros(len(items), np.int64)
    return Sequences(
        frames=frames,
        start=np.cumsum(length) - length,
        length=length,
        label=np.full(len(items), IGNORED),
        subject=nobody,
        view=nobody,
        performance=np.arange(len(items)),
        fps=np.array([fps for _, fps in items]),
        sha256=hashlib.sha256(frames.tobytes() + length.tobytes()).hexdigest(),
    )


def _drawn(names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return which clips measure: drawn by a hash of the name, so always the same ones."""
    order = np.argsort([hashlib.sha256(name.encode()).hexdigest() for name in names])
    held_out = np.zeros(len(names), bool)
    held_out[order[: max(1, round(HELD_OUT_SHARE * len(names)))]] = True
    return held_out
