"""Recorded skeletons: NW-UCLA JSON, UTD-MHAD .mat and a simple .npz, as one kind of clip."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError, MissingExtraError, RecordingError
from stream.files import check_there, first_line
from stream.spikes.npz import npz_arrays
from stream.vision.layouts import KINECT_20, UTD_MHAD_20, Layout, layout, reorder

_MAX_BYTES = 256 * 2**20
_UTD_NAME = re.compile(r"^a(\d+)_s(\d+)_t(\d+)_skeleton$")


@dataclass(frozen=True)
class SkeletonClip:
    """One recorded movement of one person.

    Attributes
    ----------
    name
        The file's name without its ending.
    joints
        (frames, joints, 3), float32, in metres; axes as in `stream.vision.layouts`.
    layout
        Which joint stands where.
    times_s
        (frames,), ascending; None when the file does not tell.
    label
        Number of the action in its data set; None when the file does not tell.
    """

    name: str
    joints: NDArray[np.float32]
    layout: Layout
    times_s: NDArray[np.float64] | None = None
    label: int | None = None


def load_clip(path: Path) -> SkeletonClip:
    """Read a recorded skeleton; its format is told by the ending of its name.

    Raises
    ------
    RecordingError
        The file is not there, is none of these formats, or holds values that cannot be.
    MissingExtraError
        It is a .mat file and scipy is not installed.
    """
    check_there(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise RecordingError(
            f"{path} is no recorded skeleton: its name ends in none of {', '.join(_READERS)}."
        )
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise RecordingError(
            f"{path} has {size / 2**20:.0f} MiB, more than the {_MAX_BYTES >> 20} MiB that are"
            " read."
        )
    clip = reader(path)
    _check(clip, path)
    return clip


def load_clips(path: Path, pattern: str = "*") -> list[SkeletonClip]:
    """Read a file, or the files of a folder whose names fit `pattern`, in the order of names.

    Raises
    ------
    RecordingError
        As for `load_clip`; or the folder holds none, or they differ in layout.
    MissingExtraError
        As for `load_clip`.
    """
    if not path.is_dir():
        return [load_clip(path)]
    files = sorted(
        file
        for file in path.glob(pattern)
        if file.suffix.lower() in _READERS and not file.name.startswith(".")
    )
    if not files:
        raise RecordingError(
            f"{path} holds no recorded skeleton ({', '.join(_READERS)}) whose name fits"
            f" '{pattern}'."
        )
    clips = [load_clip(file) for file in files]
    for file, clip in zip(files, clips, strict=True):
        if clip.layout != clips[0].layout:
            raise RecordingError(
                f"{file} has the layout {clip.layout.name}, {files[0].name} has"
                f" {clips[0].layout.name}; one stream has one layout. Choose files by 'pattern'."
            )
    return clips


class _NwUcla(msgspec.Struct):
    skeletons: list[list[tuple[float, float, float]]]
    label: int | None = None


_json = msgspec.json.Decoder(_NwUcla)


def _load_json(path: Path) -> SkeletonClip:
    """Read a sequence of NW-UCLA: `skeletons` (frames, 20, 3) in metres and `label`."""
    try:
        content = _json.decode(path.read_bytes())
        joints = np.array(content.skeletons, np.float32)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordingError(
            f"{path} is no sequence of NW-UCLA: it needs 'skeletons', a list of frames of 20 joints"
            f" of 3 numbers ({first_line(error)})."
        ) from None
    return SkeletonClip(path.stem, joints, KINECT_20, label=content.label)


def _load_mat(path: Path) -> SkeletonClip:
    """Read a sequence of UTD-MHAD: `d_skel` (20, 3, frames) in metres, label in the name."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MissingExtraError(f"Reading {path.name}", "vision") from error
    try:
        joints = loadmat(path, variable_names=["d_skel"])["d_skel"]
    except KeyError:
        raise RecordingError(f"{path} holds no 'd_skel', as skeletons of UTD-MHAD do.") from None
    except Exception as error:  # scipy raises what it meets in a bad file
        raise RecordingError(f"{path} cannot be read ({first_line(error)}).") from None
    if joints.ndim != 3 or joints.shape[:2] != (20, 3) or joints.dtype.kind not in "fiu":
        raise RecordingError(
            f"{path}: 'd_skel' is {joints.dtype} of shape {joints.shape}, expected numbers of shape"
            " (20, 3, frames)."
        )
    found = _UTD_NAME.match(path.stem)
    return SkeletonClip(
        path.stem,
        reorder(joints.transpose(2, 0, 1).astype(np.float32), UTD_MHAD_20, KINECT_20),
        KINECT_20,
        label=int(found[1]) if found else None,
    )


def _load_npz(path: Path) -> SkeletonClip:
    """Read `joints` (frames, joints, 3) in metres, `times_s` and `layout`, and maybe `label`."""
    arrays = npz_arrays(path)
    missing = [key for key in ("joints", "times_s", "layout") if key not in arrays]
    if missing:
        raise RecordingError(
            f"{path} has no array {' and no '.join(map(repr, missing))}; a recorded skeleton needs"
            " 'joints' (frames, joints, 3) in metres, 'times_s' and 'layout'."
        )
    try:
        found = layout(str(arrays["layout"]))
    except ConfigError as error:
        raise RecordingError(f"{path}: {error}") from None
    joints, times_s = arrays["joints"], arrays["times_s"]
    label = arrays.get("label")
    for key, array in (("joints", joints), ("times_s", times_s)):
        if array.dtype.kind not in "fiu":
            raise RecordingError(f"{path}: '{key}' is of type {array.dtype}, expected numbers.")
    if label is not None and (label.size != 1 or label.dtype.kind not in "iu"):
        raise RecordingError(f"{path}: 'label' must be one whole number.")
    return SkeletonClip(
        path.stem,
        joints.astype(np.float32),
        found,
        times_s.astype(np.float64),
        None if label is None else int(label.item()),
    )


def save_clip(clip: SkeletonClip, path: Path) -> None:
    """Write a clip as `.npz`, which `load_clip` reads.

    Raises
    ------
    RecordingError
        The clip has no times.
    """
    if clip.times_s is None:
        raise RecordingError(f"{clip.name} has no times; an .npz of a skeleton needs them.")
    arrays: dict[str, Any] = {
        "joints": clip.joints, "times_s": clip.times_s, "layout": clip.layout.name,
    }  # fmt: skip
    if clip.label is not None:
        arrays["label"] = clip.label
    np.savez_compressed(path, **arrays)


_READERS: dict[str, Callable[[Path], SkeletonClip]] = {
    ".json": _load_json, ".mat": _load_mat, ".npz": _load_npz,
}  # fmt: skip


def _check(clip: SkeletonClip, path: Path) -> None:
    joints, times_s = clip.joints, clip.times_s
    wanted = (len(clip.layout.joints), 3)
    if joints.ndim != 3 or joints.shape[1:] != wanted or not len(joints):
        raise RecordingError(
            f"{path}: joints have shape {joints.shape}; {clip.layout.name} needs"
            f" (frames, {wanted[0]}, 3) and at least one frame."
        )
    # A frame in which nobody was in view is NaN as a whole.
    lost = np.isnan(joints).all(axis=(1, 2))
    bad = ~np.isfinite(joints).all(axis=(1, 2)) & ~lost
    if bad.any():
        raise RecordingError(
            f"{path}: frame {int(np.flatnonzero(bad)[0])} has a joint that is no number."
        )
    if times_s is None:
        return
    if times_s.shape != (len(joints),) or not np.isfinite(times_s).all():
        raise RecordingError(
            f"{path}: 'times_s' has shape {times_s.shape}, expected one time for each of the"
            f" {len(joints)} frames."
        )
    back = np.flatnonzero(np.diff(times_s) <= 0)
    if len(back):
        raise RecordingError(
            f"{path}: times do not ascend: frame {int(back[0]) + 1} is at"
            f" {times_s[back[0] + 1]:.6f} s, after {times_s[back[0]]:.6f} s."
        )
