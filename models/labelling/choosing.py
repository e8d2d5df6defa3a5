"""Which clips to show next: those that help most, and between them some that measure."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from models.labelling.clips import Clips
from models.sesar.selection import Round, typical_then_margin

BATCH = 10
_MEASURE_EVERY = 5


def choose(
    clips: Clips,
    seen: Collection[str],
    latents: NDArray[np.float64],
    probabilities: NDArray[np.float64] | None,
) -> list[str]:
    """Return the next clips in the order in which they are to be shown, none of them `seen`.

    Every fifth one is drawn at random from those whose labels only measure; the others are what
    `models.sesar.selection.typical_then_margin` asks for.

    Parameters
    ----------
    seen
        Clips that were labelled or skipped.
    latents
        (learnable clips, d) of unit length.
    probabilities
        (learnable clips, classes) by the last round, None before any.
    """
    known = np.array([name in seen for name in clips.names])
    random = np.random.default_rng(int(known.sum()))
    measuring = random.permutation(np.flatnonzero(clips.held_out & ~known))
    measuring = measuring[: BATCH // _MEASURE_EVERY]
    learnable = clips.learnable
    labelled = known[learnable]
    # K-means makes no more clusters than there are different clips.
    different = len(np.unique(latents[~labelled], axis=0))
    count = min(BATCH - len(measuring), different)
    learning: list[int] = []
    if count:
        likely = None if probabilities is None else probabilities[None]
        asked = typical_then_margin(Round(latents, likely, labelled, count, int(labelled.sum())))
        learning = learnable[asked].tolist()
    elif not len(measuring):
        return []
    else:
        measuring = random.permutation(np.flatnonzero(clips.held_out & ~known))[:BATCH]
    order = list(learning)
    for number, clip in enumerate(measuring.tolist(), 1):
        order.insert(number * _MEASURE_EVERY - 1, clip)
    return [clips.names[i] for i in order]
