"""What a model is fed while its stability is measured."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Drive = Literal["real", "noise", "zeros", "twice"]
DRIVES: tuple[Drive, ...] = get_args(Drive)
Inputs = NDArray[Any]


def driven(inputs: Inputs, drive: Drive, kind: str, seed: int = 0) -> Inputs:
    """Return real inputs as one of `DRIVES` has them.

    `real` leaves them; `zeros` is silence; `twice` doubles them; `noise` adds once more the noise
    that they have: of counts, a Poisson draw at each unit's mean rate, of anything else, normal
    noise as large as what changes from one step to the next. Integers stay in the range of their
    type, as in a camera that is overexposed.

    Parameters
    ----------
    inputs
        (sequences, steps, ...) of any dtype.
    drive
        See above.
    kind
        Of the stream, such as `counts`.
    seed
        Of the noise.
    """
    if drive == "real":
        return inputs
    if drive == "zeros":
        return np.zeros_like(inputs)
    if drive == "twice":
        return _as(2.0 * inputs.astype(np.float64), inputs.dtype)
    random = np.random.default_rng(seed)
    if kind == "counts":
        mean = inputs.mean(axis=(0, 1), dtype=np.float64)
        return _as(inputs + random.poisson(mean, inputs.shape), inputs.dtype)
    jitter = np.diff(inputs.astype(np.float32), axis=1).std(dtype=np.float64) / np.sqrt(2)
    noise = jitter * random.standard_normal(inputs.shape, np.float32)
    return _as(inputs + noise, inputs.dtype)


def cut_sequences(inputs: Inputs, sequences: int, steps: int) -> Inputs:
    """Take sequences of equal length, spread over a recording; it is repeated if it is short.

    Parameters
    ----------
    inputs
        (steps, ...) of one stretch.
    sequences, steps
        How many, and how long.

    Returns
    -------
    numpy.ndarray
        (sequences, steps, ...).
    """
    if len(inputs) < steps + sequences:
        inputs = np.resize(inputs, (steps + sequences, *inputs.shape[1:]))
    starts = np.linspace(0, len(inputs) - steps, sequences).astype(int)
    return np.stack([inputs[start : start + steps] for start in starts])


def _as(values: NDArray[Any], dtype: np.dtype[Any]) -> Inputs:
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(dtype)
