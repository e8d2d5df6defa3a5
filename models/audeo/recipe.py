"""How a piano network is trained: clips are rendered, a network learns from them, and is judged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import version
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from models.audeo.calibration import CalibrationSettings, calibrate, taught_by
from models.audeo.collected import collected_clips
from models.audeo.dataset import Stored, load_clip, make_clip, save_clip
from models.audeo.decoder import Decoder
from models.audeo.evaluation import best_frame_share, best_threshold, of_network, tally
from models.audeo.network import LOOK_AHEADS, OUTPUTS, PianoConfig, PianoNetwork, along
from models.audeo.rendering.clip import Clip
from models.audeo.rendering.scores import TRAINING_PIECES, Score, read_scores
from models.audeo.trained import SYSTEM, Card, Trained, load_trained, network_facts, save_trained
from models.audeo.training import Checkpoint, TrainingSettings, between, fit
from models.trained_folder import WEIGHTS, check_free, claim_folder
from stream.files import file_sha256
from stream.music.collect.collecting import find_grid, look_into
from stream.music.piano.strip import Rectifier, middle_of, side_of, with_side
from stream.vision.video_file import VideoFile

TEACHER = Path(__file__).parents[1] / "zoo" / "piano-large"
"""Folder of a network that is too slow to play with, and surer."""

VALIDATION = 1_000_000
"""Added to the seeds of clips that no network learns from."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, on how many clips of three seconds, judged on how many others.

    `share` is that of the learned weights in what comes out; the rest are those it went on from.
    """

    network: PianoConfig = field(default_factory=PianoConfig)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    clips: int = 1600
    validation_clips: int = 60
    share: float = 1.0


@dataclass(frozen=True)
class _Clips:
    """Clips to learn from by number; every other one is of the user's own, if there are any."""

    rendered: Sequence[Path]
    own: Sequence[Stored]

    def __call__(self, i: int) -> Stored:
        if self.own and i % 2:
            return self.own[i // 2 % len(self.own)]
        return load_clip(self.rendered[i // 2 % len(self.rendered)])


Report = Callable[[str, int, int, float], None]
"""Told the stage, how much of it is done, of how much, and the loss or NaN."""


def render_clips(
    folder: Path,
    seeds: Sequence[int],
    workers: int,
    on_progress: Callable[[int], None],
    make: Callable[[int, list[Score]], Clip] = make_clip,
) -> list[Path]:
    """Render the clips of seeds into a folder by `make`, but not those that are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:07d}.npz" for seed in seeds]
    missing = [(seed, p) for seed, p in zip(seeds, paths, strict=True) if not p.exists()]
    if missing:
        read_scores(TRAINING_PIECES, folder / "scores")
    done = len(paths) - len(missing)
    on_progress(done)
    with ProcessPoolExecutor(workers) as pool:
        for _ in pool.map(_render, missing, repeat(folder), repeat(make)):
            done += 1
            on_progress(done)
    return paths


def _render(what: tuple[int, Path], scores: Path, make: Callable[[int, list[Score]], Clip]) -> None:
    seed, path = what
    save_clip(path, make(seed, _scores(scores)))


@lru_cache(maxsize=1)
def _scores(folder: Path) -> list[Score]:
    return read_scores(TRAINING_PIECES, folder / "scores")


def train_piano(
    recipe: Recipe,
    folder: Path,
    *,
    clips: Path,
    workers: int = 1,
    start: Path | None = None,
    collected: Sequence[Path] = (),
    resume: bool = False,
    device: str = "cpu",
    on_progress: Report = lambda stage, done, total, loss: None,
) -> Trained:
    """Train a network on renderings and write its folder.

    Parameters
    ----------
    clips
        Folder for rendered clips, which other trainings can use too.
    workers
        Processes that render, and then draw batches.
    start
        Folder of a trained network to go on from.
    device
        Of torch, on which it learns.
    collected
        Sets of `innervate collect`; every other clip then comes from them.

    Raises
    ------
    ConfigError
        The folder is in use or of another recipe.
    ModelError
        There is no trained network to go on from.
    RecordingError
        A set cannot be read.
    """
    network = PianoNetwork(recipe.network)
    if start is not None:
        network = load_trained(start).network
    own = [clip for path in collected for clip in collected_clips(path)]
    about = {
        "recipe": asdict(recipe),
        "start": None if start is None else file_sha256(start / WEIGHTS),
        "collected": [path.name for path in collected],
    }
    claim_folder(folder, about, resume=resume)
    began = time.monotonic()

    def rendered(seeds: Sequence[int], stage: str) -> list[Path]:
        return render_clips(
            clips, seeds, workers,
            lambda done: on_progress(stage, done, len(seeds), float("nan")),
        )  # fmt: skip

    training = rendered(range(recipe.clips), "rendering")
    validation = rendered(
        range(VALIDATION, VALIDATION + recipe.validation_clips), "rendering others"
    )
    network = fit(
        network,
        _Clips(training, own),
        recipe.training,
        lambda update, loss: on_progress("training", update, recipe.training.updates, loss),
        Checkpoint(folder / "checkpoint.pt"),
        device=device,
        workers=workers,
    )
    if start is not None and recipe.share < 1:
        network = between(load_trained(start).network, network, recipe.share)
    others = [load_clip(path) for path in validation]
    on_progress("judging", 0, 2, float("nan"))
    level_frames(network, others)
    on_progress("judging", 1, 2, float("nan"))
    trained = Trained(network, _card(network, recipe, others, about, time.monotonic() - began))
    on_progress("judging", 2, 2, float("nan"))
    save_trained(folder, trained)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return trained


def calibrate_piano(
    start: Path,
    video: Path,
    folder: Path,
    *,
    settings: CalibrationSettings | None = None,
    on_progress: Report = lambda stage, done, total, loss: None,
) -> Trained:
    """Let a trained network get used to what an unlabelled video shows, and write its folder.

    Parameters
    ----------
    start
        Folder of the trained network.

    Raises
    ------
    ConfigError
        The folder is in use, no keyboard is seen in the video, or too little is seen to be played.
    RecordingError
        The video cannot be read.
    ModelError
        There is no trained network to go on from.
    """
    before, teacher = load_trained(start), load_trained(TEACHER)
    s = settings or CalibrationSettings()
    about = {
        "start": file_sha256(start / WEIGHTS),
        "teacher": file_sha256(TEACHER / WEIGHTS),
        "unlabelled": video.name,
    }
    check_free(folder)
    began = time.monotonic()
    strips, times_s = read_video(video)
    features = along(before.network, strips)
    said = taught_by(before.network, features, teacher.network, strips)
    network, threshold = calibrate(
        before.network, features, times_s, said, s, decoder=before.decoder,
        on_progress=lambda update, loss: on_progress("calibrating", update, 2 * s.updates, loss),
    )  # fmt: skip
    training = {**asdict(s), **about, "took_s": round(time.monotonic() - began, 1)}
    card = msgspec.structs.replace(before.card, training=training, scores={}, threshold=threshold)
    trained = Trained(network, card, before.decoder)
    save_trained(folder, trained)
    return trained


def read_video(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the strips (T, 56, 624, 4) of a video and their times in s (T,).

    The keyboard is found in its beginning.

    Raises
    ------
    RecordingError
        It cannot be read.
    ConfigError
        No keyboard is seen in it.
    """
    grid = find_grid(look_into(path))
    rectify = Rectifier(grid)
    strips, times_ns = [], []
    side: NDArray[np.uint8] | None = None
    for time_ns, frame in VideoFile(path).frames():
        if side is None:
            side = side_of(middle_of(grid, *frame.shape[:2]))
        strips.append(with_side(rectify(frame), side))
        times_ns.append(time_ns)
    times_s = (np.array(times_ns) - times_ns[0]) / 1e9
    return np.stack(strips), times_s


def _card(
    network: PianoNetwork,
    recipe: Recipe,
    others: list[Stored],
    about: dict[str, Any],
    took_s: float,
) -> Card:
    threshold, scores = judged(network, others)
    return Card(
        system=SYSTEM,
        network=network_facts(network.config),
        threshold=threshold,
        trained_on={
            "name": "renderings",
            "clips": recipe.clips,
            "collected": about["collected"],
            "licence": "rendered by this project; scores of the music21 corpus",
        },
        training={
            **asdict(recipe.training),
            "start": about["start"],
            "share": recipe.share,
            "took_s": round(took_s, 1),
        },
        scores=scores,
        versions={"innervate": version("innervate"), "torch": str(torch.__version__)},
    )


def level_frames(network: PianoNetwork, clips: list[Stored]) -> None:
    """Shift what a network says of keys being down so that 0.5 is what scores best on clips.

    The loss counts a key that is down for more than one that is not, so that training alone says
    too often that it is.
    """
    share = best_frame_share(clips, of_network(network))
    rows = [i * len(OUTPUTS) + OUTPUTS.index("frame") for i in range(len(LOOK_AHEADS))]
    with torch.no_grad():
        network.out.bias[rows] -= math.log(share / (1 - share))


def judged(
    network: PianoNetwork, clips: list[Stored], decoder: Decoder | None = None
) -> tuple[float, dict[str, float]]:
    """Return the best threshold on clips, and the scores with it; a decoder may correct onsets."""
    run = of_network(network, decoder=decoder)
    threshold = best_threshold(clips, run)
    total = tally(clips, run, threshold)
    scores = {"onset F1 50 ms": total.tight.f1, "onset F1 100 ms": total.loose.f1,
              "frame F1": total.frames.f1}  # fmt: skip
    return threshold, {name: round(value, 4) for name, value in scores.items()}
