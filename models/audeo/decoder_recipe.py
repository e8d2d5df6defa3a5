"""How a decoder is trained: performances are rendered, a network says what it sees, it learns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
import torch

from models.audeo.dataset import Stored, load_clip, whole_strips
from models.audeo.decoder import LIMIT
from models.audeo.decoder_training import DecoderSettings, Performance, fit_decoder
from models.audeo.evaluation import counted
from models.audeo.network import PianoNetwork, keys_within, run_through
from models.audeo.performances import make_performance
from models.audeo.recipe import VALIDATION, judged, render_clips
from models.audeo.rendering.scores import TRAINING_PIECES, Score, read_scores
from models.audeo.trained import Trained, load_trained, save_trained
from models.trained_folder import WEIGHTS, check_free
from stream.files import file_sha256
from stream.music.keyboard import KEYS
from stream.music.piano.strip import PX_PER_WHITE

Report = Callable[[str, int, int, float], None]


def train_decoder(
    start: Path,
    folder: Path,
    *,
    clips: Path,
    settings: DecoderSettings | None = None,
    workers: int = 1,
    on_progress: Report = lambda stage, done, total, loss: None,
) -> Trained:
    """Train the decoder of a trained network, and write both into a folder of their own.

    Parameters
    ----------
    start
        Folder of the network, which stays as it is.
    clips
        Folder for rendered clips, such as the network was trained on, and for what it says of
        performances, 0.5 MB each; what is there is used again.
    workers
        Processes that render.

    Raises
    ------
    ConfigError
        The folder is in use.
    ModelError
        There is no trained network.
    """
    s = settings or DecoderSettings()
    torch.set_num_threads(1)  # tensors are so small that threads only wait for each other
    before = load_trained(start)
    check_free(folder)
    began = time.monotonic()
    rendered = render_clips(
        clips, range(s.clips), workers,
        lambda done: on_progress("rendering", done, s.clips, float("nan")),
    )  # fmt: skip
    validation = render_clips(
        clips, range(VALIDATION, VALIDATION + s.validation_clips), workers,
        lambda done: on_progress("rendering others", done, s.validation_clips, float("nan")),
    )  # fmt: skip
    paths = see_performances(
        start, clips, range(s.performances), workers,
        lambda done: on_progress("performances", done, s.performances, float("nan")),
    )  # fmt: skip
    seen = [load_performance(path) for path in paths]
    known = [heard(before.network, load_clip(path)) for path in rendered]
    decoder = fit_decoder(
        [*seen, *known], s, lambda pass_, loss: on_progress("decoding", pass_, s.passes, loss)
    )
    others = [load_clip(path) for path in validation]
    on_progress("judging", 0, 2, float("nan"))
    threshold, plain = judged(before.network, others)
    on_progress("judging", 1, 2, float("nan"))
    best, scores = judged(before.network, others, decoder)
    on_progress("judging", 2, 2, float("nan"))
    # So that the network's own threshold is what scores best with the decoder, too.
    with torch.no_grad():
        decoder.out.bias.add_(_logit(threshold) - _logit(best))
    facts = {
        "network": asdict(decoder.config),
        "training": {**asdict(s), "took_s": round(time.monotonic() - began, 1)},
        "not_decoded": plain,
    }
    card = msgspec.structs.replace(before.card, threshold=threshold, scores=scores, decoder=facts)
    trained = Trained(before.network, card, decoder)
    save_trained(folder, trained)
    return trained


def see_performances(
    network: Path,
    clips: Path,
    seeds: Sequence[int],
    workers: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Write what the network of a folder says of the performances of seeds, if not there already.

    The files are in a folder in `clips` that is named after its weights.
    """
    scores = clips / "scores"
    folder = clips / f"seen-by-{file_sha256(network / WEIGHTS)[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{seed:05d}.npz" for seed in seeds]
    missing = [(seed, p) for seed, p in zip(seeds, paths, strict=True) if not p.exists()]
    if missing:
        read_scores(TRAINING_PIECES, scores)
    done = len(paths) - len(missing)
    on_progress(done)
    with ProcessPoolExecutor(workers) as pool:
        for _ in pool.map(_see, missing, [network] * len(missing), [scores] * len(missing)):
            done += 1
            on_progress(done)
    return paths


def _see(what: tuple[int, Path], network: Path, scores: Path) -> None:
    torch.set_num_threads(1)
    seed, path = what
    clip = make_performance(seed, _scores(scores))
    said = heard(_network(network).network, clip)
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(
            file, logits=said.logits.half().numpy(), times_s=said.times_s, presses=said.presses
        )
    partial.rename(path)


@lru_cache(maxsize=1)
def _scores(folder: Path) -> list[Score]:
    return read_scores(TRAINING_PIECES, folder)


@lru_cache(maxsize=1)
def _network(folder: Path) -> Trained:
    return load_trained(folder)


def load_performance(path: Path) -> Performance:
    """Read what `see_performances` wrote."""
    with np.load(path, allow_pickle=False) as data:
        logits = torch.from_numpy(data["logits"].astype(np.float32))
        return Performance(logits, np.ones(KEYS, bool), data["times_s"], data["presses"])


def heard(network: PianoNetwork, clip: Stored) -> Performance:
    """Return what a network says of a clip."""
    said = run_through(network, whole_strips(clip), clip.left)
    logits = torch.full((len(said), KEYS, *said.shape[2:]), -LIMIT)
    logits[:, keys_within(clip.left, clip.strips.shape[2] // PX_PER_WHITE)] = said
    return Performance(logits, counted(clip), clip.times_s, clip.presses)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))
