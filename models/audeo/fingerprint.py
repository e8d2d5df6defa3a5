"""Whether music is recognised: Chromaprint's fingerprints, in place of a music-identification app.

The Audeo paper asks a commercial app whether it knows the pieces. This asks the same of a
fingerprint that is open, made offline, and compared with references of one's own: the recording
that belongs to the picture should be the nearest of them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError, RecordingError
from stream.files import check_there

Fingerprint = NDArray[np.uint32]
"""Chromaprint's raw values (steps,), 32 bits of what changes in the harmony."""


@dataclass(frozen=True)
class Likeness:
    """How alike a sound and a reference are.

    Attributes
    ----------
    reference
        Its name.
    bit_error
        Share of bits that differ where they lie best on each other: 0 the same, about 0.5 chance.
    """

    reference: str
    bit_error: float


def fingerprint(path: Path) -> Fingerprint:
    """Return the fingerprint of a sound file, all of it.

    Raises
    ------
    ConfigError
        `fpcalc` is not installed.
    RecordingError
        The file holds no sound, or too little: some 3 seconds are needed.
    """
    check_there(path)
    try:
        done = subprocess.run(
            ["fpcalc", "-raw", "-json", "-length", "0", str(path.absolute())],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        raise ConfigError(
            "recognising music needs Chromaprint's fpcalc: apt-get install libchromaprint-tools, or"
            " brew install chromaprint."
        ) from None
    try:
        values = json.loads(done.stdout)["fingerprint"]
    except (ValueError, KeyError):
        reason = done.stderr.strip().splitlines()
        raise RecordingError(
            f"{path} gives no fingerprint: {reason[-1] if reason else 'fpcalc says nothing'}."
        ) from None
    if not values:
        raise RecordingError(f"{path} is too short for a fingerprint; some 3 seconds are needed.")
    return np.array(values, np.uint32)


def bit_error(a: Fingerprint, b: Fingerprint) -> float:
    """Return the share of bits that differ, where the two lie best on each other.

    Every shift is tried with which they overlap by at least half of the shorter one.
    """
    if len(b) < len(a):
        a, b = b, a
    least = -(-len(a) // 2)
    return min(
        _differing(a[max(-shift, 0) :], b[max(shift, 0) :])
        for shift in range(least - len(a), len(b) - least + 1)
    )


def _differing(a: Fingerprint, b: Fingerprint) -> float:
    both = min(len(a), len(b))
    different = a[:both] ^ b[:both]
    return float(np.unpackbits(different.view(np.uint8)).mean())


def identify(heard: Fingerprint, references: Mapping[str, Fingerprint]) -> tuple[Likeness, ...]:
    """Return how alike a sound is to each reference, the nearest one first."""
    found = [Likeness(name, bit_error(heard, other)) for name, other in references.items()]
    return tuple(sorted(found, key=lambda likeness: likeness.bit_error))
