"""How a piano network is trained: clips are rendered, a network learns from them, and is judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from models.audeo.collected import collected_clips
from models.audeo.dataset import Stored, load_clip, make_clip, save_clip
from models.audeo.evaluation import best_threshold, of_network, tally
from models.audeo.network import PianoConfig, PianoNetwork
from models.audeo.rendering.scores import TRAINING_PIECES, Score, read_scores
from models.audeo.trained import SYSTEM, Card, Trained, load_trained, network_facts, save_trained
from models.audeo.training import Checkpoint, TrainingSettings, fit
from models.trained_folder import WEIGHTS, claim_folder
from stream.files import file_sha256

_KEPT = 300
_VALIDATION = 1_000_000
"""Added to the seeds of clips that no network learns from."""


@dataclass(frozen=True)
class Recipe:
    """What is trained, on how many clips of three seconds, judged on how many others."""

    network: PianoConfig = field(default_factory=PianoConfig)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    clips: int = 1600
    validation_clips: int = 60


Report = Callable[[str, int, int, float], None]
"""Told the stage, how much of it is done, of how much, and the loss or NaN."""


def render_clips(
    folder: Path, seeds: Sequence[int], workers: int, on_progress: Callable[[int], None]
) -> list[Path]:
    """Render the clips of seeds into a folder, but not those that are there already."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:07d}.npz" for seed in seeds]
    missing = [(seed, p) for seed, p in zip(seeds, paths, strict=True) if not p.exists()]
    if missing:
        read_scores(TRAINING_PIECES, folder / "scores")
    done = len(paths) - len(missing)
    on_progress(done)
    with ProcessPoolExecutor(workers) as pool:
        for _ in pool.map(_render, missing, [folder] * len(missing)):
            done += 1
            on_progress(done)
    return paths


def _render(what: tuple[int, Path], folder: Path) -> None:
    seed, path = what
    save_clip(path, make_clip(seed, _scores(folder)))


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
    on_progress: Report = lambda stage, done, total, loss: None,
) -> Trained:
    """Train a network on renderings and write its folder.

    Parameters
    ----------
    clips
        Folder for rendered clips, which other trainings can use too.
    workers
        Processes that render.
    start
        Folder of a trained network to go on from.
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
        range(_VALIDATION, _VALIDATION + recipe.validation_clips), "rendering others"
    )
    load = lru_cache(_KEPT)(load_clip)

    def clip(i: int) -> Stored:
        if own and i % 2:
            return own[(i // 2) % len(own)]
        return load(training[i // 2 % len(training)])

    network = fit(
        network,
        clip,
        recipe.training,
        lambda update, loss: on_progress("training", update, recipe.training.updates, loss),
        Checkpoint(folder / "checkpoint.pt"),
    )
    others = [load(path) for path in validation]
    trained = Trained(network, _card(network, recipe, others, about, time.monotonic() - began))
    save_trained(folder, trained)
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    return trained


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
        network=network_facts(recipe.network),
        threshold=threshold,
        trained_on={
            "name": "renderings",
            "clips": recipe.clips,
            "collected": about["collected"],
            "licence": "rendered by this project; scores of the music21 corpus",
        },
        training={**asdict(recipe.training), "start": about["start"], "took_s": round(took_s, 1)},
        scores=scores,
        versions={"innervate": version("innervate"), "torch": str(torch.__version__)},
    )


def judged(network: PianoNetwork, clips: list[Stored]) -> tuple[float, dict[str, float]]:
    """Return the best threshold on clips, and the scores with it."""
    run = of_network(network)
    threshold = best_threshold(clips, run)
    total = tally(clips, run, threshold)
    scores = {"onset F1 50 ms": total.tight.f1, "onset F1 100 ms": total.loose.f1,
              "frame F1": total.frames.f1}  # fmt: skip
    return threshold, {name: round(value, 4) for name, value in scores.items()}
