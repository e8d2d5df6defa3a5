"""Binned counts in `.npz` files of NumPy."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import RecordingError
from stream.files import MAX_BYTES, check_there, file_sha256, first_line
from stream.spikes.checks import check_recording, whole_counts
from stream.spikes.recording import Recording


def npz_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file by name.

    Raises
    ------
    RecordingError
        The file is not there, is not such a file, holds pickled objects, or unpacks to more than
        is read.
    """
    check_there(path)
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(member.file_size for member in packed.infolist())
        if size > MAX_BYTES:
            raise RecordingError(
                f"{path} unpacks to {size / 2**30:.1f} GiB, more than the"
                f" {MAX_BYTES / 2**30:.0f} GiB that are read."
            )
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except RecordingError:
        raise
    except Exception as error:  # numpy, zipfile and zlib each raise their own for a bad file
        raise RecordingError(
            f"{path} cannot be read as an .npz file ({first_line(error)})."
        ) from error


def load_npz(path: str | os.PathLike[str]) -> Recording:
    """Read binned counts from an `.npz` file.

    It holds `counts` (bins, units) and `width_s`, and may hold `units` (names) and
    `segment_starts_s`.

    Raises
    ------
    RecordingError
        The file is not there, is not such a file, or holds values that cannot be.
    """
    path = Path(path)
    arrays = npz_arrays(path)
    missing = [key for key in ("counts", "width_s") if key not in arrays]
    if missing:
        raise RecordingError(
            f"{path} has no array {' and no '.join(map(repr, missing))}; it holds"
            f" {', '.join(sorted(arrays)) or 'nothing'}. Binned counts need 'counts' (bins, units)"
            " and 'width_s'."
        )
    counts = np.asarray(arrays["counts"])
    if counts.ndim != 2:
        raise RecordingError(f"{path}: 'counts' has shape {counts.shape}, expected (bins, units).")
    if arrays["width_s"].size != 1 or arrays["width_s"].dtype.kind not in "fiu":
        raise RecordingError(f"{path}: 'width_s' must be one number, the width of a bin in s.")
    width_s = float(arrays["width_s"].item())
    units = arrays.get("units")
    starts = arrays.get("segment_starts_s", np.zeros(1))
    recording = Recording(
        name=path.stem,
        units=tuple(
            str(u) for u in (range(counts.shape[1]) if units is None else np.atleast_1d(units))
        ),
        start_s=float(np.atleast_1d(starts)[0]) if np.size(starts) else 0.0,
        stop_s=float(np.atleast_1d(starts)[0]) + len(counts) * width_s if np.size(starts) else 0.0,
        segment_starts_s=np.atleast_1d(np.asarray(starts, dtype=np.float64)),
        counts=whole_counts(counts, str(path)),
        width_s=width_s,
        sha256=file_sha256(path),
    )
    check_recording(recording, str(path))
    return recording
