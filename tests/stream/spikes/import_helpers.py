"""Files to import, and short ways to import them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import scipy.io
import scipy.sparse

from stream.spikes.importing import Imported, import_files
from stream.spikes.mapping import make_mapping
from stream.spikes.recording import Recording

RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(1.0, (40, 3)).astype(np.uint8)
VELOCITY = RNG.normal(size=(40, 2))
BINNED = {"variable": "Y", "width": "50 ms"}


def run(mapping: dict[str, object], *paths: Path) -> Imported:
    return import_files(paths, make_mapping(mapping, "mapping"))


def recording(mapping: dict[str, object], *paths: Path) -> Recording:
    return run(mapping, *paths).recording


def cells(*elements: object) -> np.ndarray:
    array = np.empty((1, len(elements)), dtype=object)
    array[0, :] = elements
    return array


def save(path: Path, **arrays: np.ndarray) -> Path:
    """Write arrays in the format that the suffix names."""
    if path.suffix == ".mat":
        scipy.io.savemat(path, arrays)
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path
