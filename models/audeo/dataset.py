"""Training clips: rendered once, kept in a folder, read as strips with labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.audeo.rendering.clip import Clip, render
from models.audeo.rendering.looks import (
    TRAINING_FAMILIES,
    UNSEEN_FAMILY,
    Look,
    Random,
    draw_look,
    loosen,
)
from models.audeo.rendering.performance import (
    Written,
    let_go,
    made_up,
    perform,
    reachable,
)
from models.audeo.rendering.playing import play
from models.audeo.rendering.scores import UNSEEN_PIECES, Score, read_scores
from stream.errors import ConfigError
from stream.music.keyboard import CENTRES_U, HIGHEST_PITCH, LOWEST_PITCH, PITCHES, WHITES
from stream.music.piano.strip import PX_PER_WHITE, side_of, with_side

WINDOW_WHITES = 20
CLIP_S = 3.0
HELD_OUT_S = 8.0
WHOLE_S = 4.0
HELD_OUT, WHOLE, ONE = 88, 89, 90
"""Begin the seeds of clips to measure on, of whole keyboards and of one keyboard."""


_D4_PITCH, _D4_U = 62, 24.5


def make_clip(seed: int, scores: list[Score]) -> Clip:
    """Render the training clip of a seed; half of them play scores, where there are any.

    Half of the scores are played by the rules of `rendering.playing`, half without. Hands of odd
    seeds lie loosely over the keys, those of even ones reach for each.
    """
    rng = np.random.default_rng(seed)
    look = draw_look(rng, str(rng.choice(TRAINING_FAMILIES)))
    beat_s = float(rng.uniform(0.25, 0.9))
    beats = CLIP_S / beat_s
    playing = perform
    if scores and rng.random() < 0.5:
        notes, left = excerpt(rng, scores, beats)
        playing = play if rng.random() < 0.5 else perform
    else:
        left = int(rng.integers(0, WHITES - WINDOW_WHITES + 1))
        inside = _inside(left)
        notes = made_up(rng, inside[0], inside[-1], beats)
    presses = playing(rng, reachable(notes), beat_s, CLIP_S - 0.1)
    if seed % 2:
        look = loosen(rng, look, left + WINDOW_WHITES / 2)
        presses = let_go(presses)
    return render(rng, look, presses, left=left, right=left + WINDOW_WHITES, length_s=CLIP_S)


def make_whole(seed: int, scores: list[Score], *, one_look: bool = False) -> Clip:
    """Render a training clip of all 88 keys, for networks that see the whole keyboard at once.

    Four seconds at 30 frames a second, of looks and pieces as `make_clip` has them; with
    `one_look`, all clips have the one look of `make_held_out`.
    """
    rng = np.random.default_rng([WHOLE, seed])
    look, keyboard = draw_look(rng, str(rng.choice(TRAINING_FAMILIES))), rng
    if one_look:
        look, keyboard = _one_look()
    look = replace(look, rate_hz=30.0)
    beat_s = float(rng.uniform(0.35, 0.75))
    beats = WHOLE_S / beat_s
    if scores and rng.random() < 0.5:
        while len(notes := excerpt(rng, scores, beats)[0]) < 4:
            pass
    else:
        low = int(rng.integers(30, 60))
        notes = made_up(rng, low, low + int(rng.integers(24, 41)), beats)
    presses = perform(rng, reachable(notes), beat_s, WHOLE_S - 0.2)
    return render(
        rng, look, presses, left=0, right=WHITES, length_s=WHOLE_S, keyboard=keyboard
    )  # fmt: skip


def make_held_out(seed: int, scores: list[Score], family: str, *, one_look: bool = False) -> Clip:
    """Render a clip to measure on: all 88 keys, eight seconds at 30 frames a second.

    Scores are what no training plays; with `looks.UNSEEN_FAMILY`, neither were such looks seen.
    With `one_look`, all clips are of one keyboard of that family, one camera and one player.
    """
    rng = np.random.default_rng([HELD_OUT, seed])
    look, keyboard = draw_look(rng, family), rng
    if one_look:
        look, keyboard = _one_look()
    look = replace(look, rate_hz=30.0)
    beat_s = float(rng.uniform(0.35, 0.75))
    beats = HELD_OUT_S / beat_s
    while len(notes := excerpt(rng, scores, beats)[0]) < 8:
        pass
    presses = perform(rng, reachable(notes), beat_s, HELD_OUT_S - 0.2)
    return render(
        rng, look, presses, left=0, right=WHITES, length_s=HELD_OUT_S, keyboard=keyboard
    )  # fmt: skip


def _one_look() -> tuple[Look, Random]:
    """Return the one look, and where what is particular to its keyboard comes from."""
    rng = np.random.default_rng(ONE)
    return draw_look(rng, UNSEEN_FAMILY), rng


def _inside(left: int) -> list[int]:
    """Return the pitches whose keys lie whole in a window."""
    return [p for p, u in zip(PITCHES, CENTRES_U, strict=True)
            if left + 0.4 < u < left + WINDOW_WHITES - 0.4]  # fmt: skip


def excerpt(rng: Random, scores: list[Score], beats: float) -> tuple[list[Written], int]:
    """Take a piece of a score, transposed, and a window in which one of its notes lies."""
    score = scores[int(rng.integers(len(scores)))]
    begin = float(rng.uniform(0, max(1.0, score.beats - beats)))
    shift = int(rng.integers(-7, 8))
    notes = [
        Written(n.pitch + shift, n.beat - begin, n.beats, n.hand)
        for n in score.notes
        if begin <= n.beat < begin + beats and LOWEST_PITCH <= n.pitch + shift <= HIGHEST_PITCH
    ]
    if not notes:
        return [], int(rng.integers(0, WHITES - WINDOW_WHITES + 1))
    about = CENTRES_U[notes[int(rng.integers(len(notes)))].pitch - LOWEST_PITCH]
    left = int(np.clip(about - rng.uniform(4, 16), 0, WHITES - WINDOW_WHITES))
    return notes, left


@dataclass(frozen=True)
class Stored:
    """A clip as it lies in a file: see `Clip`; presses (n, 7) have the fields of `Press`."""

    strips: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    presses: NDArray[np.float64]
    left: int
    px_per_white: float
    camera_u: float


def whole_strips(clip: Stored) -> NDArray[np.uint8]:
    """Return the strips of a clip with the side of the camera, (T, 56, width, 4)."""
    whites = clip.strips.shape[2] // PX_PER_WHITE
    return with_side(clip.strips, side_of(clip.camera_u, clip.left, whites))


def mirrored(clip: Stored) -> Stored:
    """Return a clip as a mirror shows it: low keys at the right end, and those of the same pattern.

    The pattern of keys is symmetric about D. Light and hands of the mirror are others.
    """
    whites = clip.strips.shape[2] // PX_PER_WHITE
    left = round(2 * _D4_U) - clip.left - whites
    # Whole octaves aside, so that all of it lies on the keyboard.
    octaves = max(0, -(left // 7)) - max(0, -((WHITES - whites - left) // 7))
    presses = clip.presses.copy()
    presses[:, 0] = 2 * _D4_PITCH - presses[:, 0] + 12 * octaves
    return replace(
        clip, strips=clip.strips[:, :, ::-1], presses=presses, left=left + 7 * octaves,
        camera_u=2 * _D4_U - clip.camera_u + 7 * octaves,
    )  # fmt: skip


def save_clip(path: Path, clip: Clip) -> None:
    """Write a clip to an .npz file."""
    with path.with_suffix(".part").open("wb") as file:
        np.savez(
            file, strips=clip.strips, times_s=clip.times_s,
            presses=np.array([astuple(p) for p in clip.presses], float).reshape(-1, 7),
            about=np.array([clip.left, clip.look.px_per_white, clip.look.camera_u]),
        )  # fmt: skip
    path.with_suffix(".part").rename(path)


def load_clip(path: Path) -> Stored:
    """Read a clip from an .npz file."""
    with np.load(path, allow_pickle=False) as data:
        left, px_per_white, camera_u = data["about"]
        return Stored(data["strips"], data["times_s"], data["presses"], int(left),
                      float(px_per_white), float(camera_u))  # fmt: skip


def held_out_clips(
    folder: Path,
    looks: str,
    count: int,
    workers: int,
    shown: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> list[Path]:
    """Render clips to measure on, but not those already there.

    They are of `unseen` looks, of `seen` ones, or all of `one` look, that of `make_held_out`.
    `shown` may show progress over what it is given.

    Raises
    ------
    ConfigError
        There are no such looks.
    """
    if looks not in ("unseen", "seen", "one"):
        raise ConfigError(f"looks are 'unseen', 'seen' or 'one', found '{looks}'.")
    folder = folder / looks
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:04d}.npz" for seed in range(count)]
    missing = [(seed, looks, path) for seed, path in enumerate(paths) if not path.exists()]
    if missing:
        read_scores(UNSEEN_PIECES, folder / "scores")
        with ProcessPoolExecutor(workers) as pool:
            jobs = [pool.submit(_render_held_out, *job) for job in missing]
            for job in shown(jobs):
                job.result()
    return paths


def _render_held_out(seed: int, looks: str, path: Path) -> None:
    families = TRAINING_FAMILIES if looks == "seen" else (UNSEEN_FAMILY,)
    scores = read_scores(UNSEEN_PIECES, path.parent / "scores")
    family = families[seed % len(families)]
    save_clip(path, make_held_out(seed, scores, family, one_look=looks == "one"))
