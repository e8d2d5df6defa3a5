"""`innervate export` of a piano network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from exporters.audeo import export_piano
from models.audeo.dataset import make_clip
from models.audeo.network import LOOK_AHEADS
from models.audeo.trained import DECODER, load_trained
from models.trained_folder import WEIGHTS
from stream.errors import ConfigError
from stream.model_file import Contract
from stream.music.piano.strip import CHANNELS, PX_PER_WHITE, STRIP_HEIGHT, STRIP_WIDTH, side_of

_FRAMES = 130
_SEED = 3_000_000


def export_piano_model(
    run: Path, out: Path, look_ahead: int, *, allow_unstable: bool = False
) -> Contract:
    """Write the model file of a piano network, verified on renderings.

    Raises
    ------
    ConfigError
        The network has no such look-ahead.
    ModelError
        The exported step differs from the network, or it is unstable.
    """
    if look_ahead not in LOOK_AHEADS:
        raise ConfigError(
            f"--look-ahead {look_ahead}: the network answers"
            f" {', '.join(map(str, LOOK_AHEADS))} frames late, choose one of these."
        )
    trained = load_trained(run)
    with Console().status("comparing every frame"):
        weights = (run / WEIGHTS).read_bytes()
        if trained.decoder is not None and not look_ahead:
            weights += (run / DECODER).read_bytes()
        return export_piano(
            trained, hashlib.sha256(weights).hexdigest(), strips(), out, look_ahead=look_ahead,
            allow_unstable=allow_unstable,
        )  # fmt: skip


def strips() -> NDArray[np.uint8]:
    """Return two stretches (2, 130, 56, 624, 4), each of part of a keyboard."""
    whole = np.zeros((2, _FRAMES, STRIP_HEIGHT, STRIP_WIDTH, len(CHANNELS)), np.uint8)
    for number, stretch in enumerate(whole):
        clip = make_clip(_SEED + number, [])
        columns = slice(clip.left * PX_PER_WHITE, clip.left * PX_PER_WHITE + clip.strips.shape[2])
        shown = np.resize(clip.strips, (_FRAMES, *clip.strips.shape[1:]))
        stretch[:, :, columns, :3] = shown
        stretch[..., 3] = side_of(clip.look.camera_u)
    return whole
