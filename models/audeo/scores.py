"""How well notes were found: the field's measures, counted by mir_eval and scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.audeo.notes import Note, Notes, Truth, shifted
from stream.errors import MissingExtraError
from stream.music.keyboard import CENTRES_U, IS_BLACK, LOWEST_PITCH, PITCHES, WHITES, KeyGrid

ONSET_S = 0.05
"""How far an onset may be off."""
LOOSE_ONSET_S = 0.1
"""How far it may be off where labels come from sound (PianoYT)."""
OFFSET_S, OFFSET_SHARE = 0.05, 0.2
"""How far an offset may be off, in seconds or as a share of the note, whichever is more."""

_SHIFTS_S = np.arange(-60, 61) * 0.005
_ZONES = (55, 62, 69, 76)

Span = tuple[float, float]
"""From when, and until before when, in seconds."""


@dataclass(frozen=True)
class Score:
    """How many of so many notes (or cells of a piano roll) were found.

    Of nothing at all, precision, recall and F1 are 0, as in mir_eval.

    Attributes
    ----------
    hits
        Found, and true.
    found, true
        How many were found, and how many there are.
    """

    hits: int = 0
    found: int = 0
    true: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.hits + other.hits, self.found + other.found, self.true + other.true)

    @property
    def precision(self) -> float:
        """Return which share of what was found is true."""
        return self.hits / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Return which share of what is true was found."""
        return self.hits / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall."""
        both = self.found + self.true
        return 2 * self.hits / both if both else 0.0


@dataclass(frozen=True)
class Matched:
    """Notes that were found, put against the truth.

    Attributes
    ----------
    hits
        Pairs of a true note and the found one that it is.
    missed
        True notes that nobody found.
    wrong
        Found notes that are not true.
    """

    hits: tuple[tuple[Note, Note], ...]
    missed: Notes
    wrong: Notes

    @property
    def score(self) -> Score:
        """Return the counts."""
        hits = len(self.hits)
        return Score(hits, hits + len(self.wrong), hits + len(self.missed))

    def by_key(self, groups: Sequence[str]) -> dict[str, Score]:
        """Return scores apart for groups of keys.

        `groups` names the group of each of the 88 keys. A hit has the right pitch, so that what
        was found and what is true always fall into the same group.
        """
        counts = {name: np.zeros(3, int) for name in dict.fromkeys(groups)}
        for note, _ in self.hits:
            counts[groups[note.pitch - LOWEST_PITCH]] += (1, 1, 1)
        for note in self.wrong:
            counts[groups[note.pitch - LOWEST_PITCH]] += (0, 1, 0)
        for note in self.missed:
            counts[groups[note.pitch - LOWEST_PITCH]] += (0, 0, 1)
        return {name: Score(*(int(n) for n in c)) for name, c in counts.items()}


def match(
    found: Sequence[Note],
    truth: Truth,
    onset_s: float = ONSET_S,
    *,
    offsets: bool = False,
    span_s: Span | None = None,
) -> Matched:
    """Put found notes against the truth: one to one, same pitch, onsets at most so far apart.

    Notes near an end of the span are matched with those beyond it before those are left out, so
    that the cut itself costs nothing.

    Parameters
    ----------
    found, truth
        What to compare. Found notes that only match unsure ones are left out.
    onset_s
        How far an onset may be off.
    offsets
        Also ask for the offset, to 50 ms or a fifth of the note.
    span_s
        Count only onsets in it; the truth's own span without one.

    Raises
    ------
    MissingExtraError
        mir_eval is not installed.
    """
    first, end = span_s or truth.span_s or (-np.inf, np.inf)
    pairs = _pairs(truth.notes, found, onset_s, offsets)
    true_of = dict(pairs)
    found_of = {j: i for i, j in pairs}
    left = [j for j in range(len(found)) if j not in found_of]
    doubtful = {
        left[j] for _, j in _pairs(truth.unsure, [found[j] for j in left], onset_s, offsets)
    }

    def inside(note: Note) -> bool:
        return bool(first <= note.onset_s < end)

    return Matched(
        tuple((truth.notes[i], found[j]) for i, j in pairs if inside(truth.notes[i])),
        tuple(n for i, n in enumerate(truth.notes) if i not in true_of and inside(n)),
        tuple(found[j] for j in left if j not in doubtful and inside(found[j])),
    )


def _pairs(
    true: Sequence[Note], found: Sequence[Note], onset_s: float, offsets: bool
) -> list[tuple[int, int]]:
    try:
        from mir_eval.transcription import match_notes
    except ImportError as error:
        raise MissingExtraError("scoring notes", "train") from error
    if not true or not found:
        return []
    (a, a_hz), (b, b_hz) = _arrays(true), _arrays(found)
    matched = match_notes(
        a, a_hz, b, b_hz, onset_tolerance=onset_s,
        offset_ratio=OFFSET_SHARE if offsets else None, offset_min_tolerance=OFFSET_S,
    )  # fmt: skip
    return [(int(i), int(j)) for i, j in matched]


def _arrays(notes: Sequence[Note]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    intervals = np.array([(n.onset_s, n.offset_s) for n in notes])
    return intervals, 440.0 * 2.0 ** ((np.array([n.pitch for n in notes]) - 69) / 12)


def best_shift(found: Sequence[Note], truth: Truth, span_s: Span | None = None) -> float:
    """Return the one shift of all found notes, in seconds, with the highest onset F1 at 50 ms.

    For a truth whose clock is not that of the picture, such as notes heard in the sound of a clip.
    From -0.3 to 0.3 s in steps of 5 ms; of several that are equally good, the middle one. It is
    fitted to what is then scored, so whoever quotes a score says which shift it has.
    """
    f1 = np.array(
        [match(shifted(found, float(s)), truth, span_s=span_s).score.f1 for s in _SHIFTS_S]
    )
    best = np.flatnonzero(f1 == f1.max())
    return float(_SHIFTS_S[best[len(best) // 2]])


def frame_score(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> Score:
    """Return the score of two piano rolls of the same shape (frames, keys), cell by cell."""
    return Score(int((found & true).sum()), int(found.sum()), int(true.sum()))


@dataclass(frozen=True)
class PublishedScore:
    """The measures of the Audeo paper: means over frames.

    A frame without keys in truth and estimate counts as 1, and so does the precision of a frame in
    which nothing was found. Silence therefore lifts all of them; compare them with nothing else.
    """

    precision: float
    recall: float
    accuracy: float
    f1: float


def published_score(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> PublishedScore:
    """Return what the Audeo paper measures, of piano rolls (frames, keys).

    Accuracy is hits / (hits + wrong + missed). There, rolls have 25 frames a second and the 51 keys
    of `models.audeo.published`.

    Raises
    ------
    MissingExtraError
        scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import jaccard_score, precision_recall_fscore_support
    except ImportError as error:
        raise MissingExtraError("the scores of the Audeo paper", "train") from error
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, found, average="samples", zero_division=1
    )
    accuracy = jaccard_score(true, found, average="samples", zero_division=1)
    return PublishedScore(float(precision), float(recall), float(accuracy), float(f1))


@dataclass(frozen=True)
class LookAhead:
    """What a system scores that sees so many seconds of the future."""

    look_ahead_s: float
    tight: Score
    loose: Score


def look_ahead_curve(
    found: Mapping[float, Sequence[Note]], truth: Truth, span_s: Span | None = None
) -> tuple[LookAhead, ...]:
    """Return onset scores at 50 and 100 ms for each look-ahead in seconds, smallest first.

    Onsets are when keys are down, not when a system says so: the look-ahead is the delay that the
    score is bought with.
    """
    return tuple(
        LookAhead(
            seconds,
            match(found[seconds], truth, span_s=span_s).score,
            match(found[seconds], truth, LOOSE_ONSET_S, span_s=span_s).score,
        )
        for seconds in sorted(found)
    )


def colours() -> tuple[str, ...]:
    """Return for each of the 88 keys whether it is white or black."""
    return tuple("black" if black else "white" for black in IS_BLACK)


def zones() -> tuple[str, ...]:
    """Return for each of the 88 keys its zone of pitch, narrower around the middle of the piano."""
    return bands(np.array(PITCHES), _ZONES)


def bands(
    values: NDArray[Any],
    edges: Sequence[float],
) -> tuple[str, ...]:
    """Return for each key (88,) the band of its value, such as `under 55` or `55 to 62`.

    An edge belongs to the band above it; a key without a value is `out of view`.
    """
    names = [
        f"under {edges[0]:g}",
        *(f"{low:g} to {high:g}" for low, high in pairwise(edges)),
        f"from {edges[-1]:g}",
    ]
    places = np.searchsorted(edges, values, side="right")
    return tuple(
        "out of view" if np.isnan(value) else names[place]
        for value, place in zip(values, places, strict=True)
    )


def pixels_per_key(grid: KeyGrid) -> NDArray[np.float64]:
    """Return (88,) how many pixels a white key is wide where each key lies, NaN out of view."""
    fronts = grid[-1].astype(np.float64)
    width = np.linalg.norm(np.diff(fronts, axis=0), axis=-1)
    return np.asarray(width[np.minimum(CENTRES_U.astype(int), WHITES - 1)])


def whites_from_camera(camera_u: float) -> NDArray[np.float64]:
    """Return (88,) how many white keys each key is away from the point below the camera.

    `camera_u` is that point, in widths of a white key from the left end of A0.
    """
    return np.asarray(np.abs(CENTRES_U.astype(np.float64) - camera_u))
