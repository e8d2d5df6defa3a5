"""Audeo's networks as published, trained on our renderings, beside the live piano network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks._results import JsonFile, Row, show, write_result
from models.audeo.dataset import Stored, held_out_clips, load_clip, make_whole, whole_strips
from models.audeo.evaluation import (
    Probabilities,
    best_frame_share,
    best_threshold,
    levelled,
    of_file,
    of_network,
    tally,
)
from models.audeo.network import PianoNetwork
from models.audeo.published import KEYS, ROLL_FRAMES, Roll2Midi, Video2Roll
from models.audeo.published_clips import (
    MIDDLE,
    Fives,
    down_in,
    of_roll2midi,
    of_video2roll,
    roll_of,
    rolls_of,
)
from models.audeo.published_fitting import Roll2MidiTraining, fit_video2roll
from models.audeo.recipe import VALIDATION, render_clips
from models.audeo.trained import load_trained
from models.audeo.training import TrainingSettings, fit
from models.trained_folder import save_tensors
from stream.music.keyboard import WHITES

EPOCH = 100
"""Batches in an epoch, after which the loss in validation is looked at; published are some 312."""
PATIENCE = 40_000
"""Pictures without gain until the rate falls; published are two epochs of 20,000."""
VALIDATION_CLIPS = 16
TEST_CLIPS = {"unseen": 24, "one": 8}
PASSES = 4
"""How often Roll2Midi goes through its stretches; published are 300 epochs."""
FRAME_S = 1 / 30
THRESHOLDS = tuple(np.round(np.arange(0.05, 0.96, 0.05), 2).tolist())
SHIPPED = Path(__file__).parents[1] / "models" / "zoo" / "piano"


@dataclass(frozen=True)
class Rival:
    """A way from strips to keys, what it saw in training, and what it costs."""

    name: str
    probabilities: Probabilities
    frames_seen: int | None
    look_ahead_ms: float
    frame_ms: float


def run(
    out: Annotated[Path, typer.Argument(help="Folder for clips and weights; kept for next time.")],
    rendered: Annotated[
        Path, typer.Argument(help="Folder of clips to measure on, as of `evaluate audeo`.")
    ],
    *,
    json_path: JsonFile = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips of 4 s to learn from.")] = 128,
    seconds: Annotated[float, typer.Option(help="How long Video2Roll learns.")] = 2900,
    batch: Annotated[int, typer.Option(min=2, help="Fives in a batch; published: 64.")] = 16,
    corrections: Annotated[int, typer.Option(min=1, help="Stretches Roll2Midi learns from.")] = 64,
    one_look: Annotated[
        bool, typer.Option(help="All clips of one keyboard, camera and player.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda for a GPU.")] = "cpu",
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = 1,
) -> dict[str, Any]:
    """Train Video2Roll, then Roll2Midi on its output, and a live network on as many frames.

    All score on keys 36 to 86, which Audeo has, with thresholds from validation clips. What is in
    the folder already is not made again.
    """
    torch.set_num_threads(1)
    console = Console()
    looks = "one" if one_look else "unseen"
    out = out / looks
    make = partial(make_whole, one_look=one_look)
    learn, check = (
        render_clips(out / "whole", seeds, workers, lambda done: None, make=make)
        for seeds in (range(clips), range(VALIDATION, VALIDATION + VALIDATION_CLIPS))
    )
    validation = [load_clip(path) for path in check]
    video2roll, seen = _video2roll(
        out, learn, validation, seconds=seconds, batch=batch, device=device, console=console
    )
    roll2midi, corrected = _roll2midi(out, learn, video2roll, corrections, device)
    few = _live(out, learn, seen, device)
    shipped = load_trained(SHIPPED).network
    strips = validation[0].strips[:60]
    first_ms = _ms(lambda: roll_of(video2roll, strips, 1), len(strips))
    stretch = rolls_of([roll_of(video2roll, strips)])
    second_ms = _ms(lambda: roll2midi(stretch), ROLL_FRAMES)
    file, _ = of_file(SHIPPED.with_suffix(".onnx"))
    first = _Once(of_video2roll(video2roll))
    live_ms = _ms(lambda: file(whole_strips(validation[0])[:60], 0), 60)
    rivals = [
        Rival("Video2Roll", first, seen,
              1e3 * MIDDLE * FRAME_S, first_ms),
        Rival("Video2Roll and Roll2Midi",
              _Once(of_roll2midi(roll2midi, first)), corrected * ROLL_FRAMES,
              1e3 * ROLL_FRAMES * FRAME_S, first_ms + second_ms),
        Rival("live, as many frames", _Once(of_network(few)), seen, 0, live_ms),
        Rival("live, as shipped", _Once(of_network(shipped)), None, 0, live_ms),
    ]  # fmt: skip
    paths = held_out_clips(rendered, looks, TEST_CLIPS[looks], workers)
    test = [load_clip(path) for path in paths]
    rows = [row for rival in rivals for row in _rows(rival, validation, test)]
    show(rows, console, "onsets and frames on keys 36 to 86")
    conditions = {
        "looks": looks,
        "clips": clips,
        "batch": batch,
        "seconds": seconds,
        "corrections": corrections,
    }
    return write_result("audeo-published", conditions, rows, json_path)


def _video2roll(
    out: Path,
    learn: Sequence[Path],
    validation: Sequence[Stored],
    *,
    seconds: float,
    batch: int,
    device: str,
    console: Console,
) -> tuple[Video2Roll, int]:
    path = out / "video2roll.pt"
    if not path.exists():
        epochs = []

        def told(epoch: int, trained: float, held_out: float) -> None:
            epochs.append(epoch)
            console.print(f"Video2Roll, epoch {epoch}: {trained:.4f}, validation {held_out:.4f}")

        torch.manual_seed(0)
        fives = Fives([load_clip(p) for p in learn], EPOCH, batch, 0)
        fitted = fit_video2roll(
            fives, list(Fives(validation, 10, 16, 1)), epochs=10_000, seconds=seconds,
            patience=PATIENCE // (EPOCH * batch), device=device, show=told,
        )  # fmt: skip
        weights = {name: value.cpu() for name, value in fitted.network.state_dict().items()}
        save_tensors(path, {"weights": weights, "seen": len(epochs) * EPOCH * batch})
    stored = torch.load(path, weights_only=True)
    network = _channels_last(Video2Roll())
    network.load_state_dict(stored["weights"])
    return network.eval(), int(stored["seen"])


def _channels_last(network: Video2Roll) -> Video2Roll:
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _roll2midi(
    out: Path, learn: Sequence[Path], before: Video2Roll, corrections: int, device: str
) -> tuple[Roll2Midi, int]:
    """Train on one stretch after another, for more updates out of few."""
    path = out / "roll2midi.pt"
    if not path.exists():
        torch.manual_seed(0)
        some = [load_clip(p) for p in learn[: max(1, corrections // PASSES)]]
        # A clip is a little longer than a stretch; what is over is left out.
        seen = ROLL_FRAMES + MIDDLE
        rolls = rolls_of([roll_of(before, clip.strips[:seen])[:ROLL_FRAMES] for clip in some])
        true = rolls_of([down_in(clip)[:ROLL_FRAMES] for clip in some])
        training = Roll2MidiTraining(device)
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            for step in range(corrections):
                row = slice(step % len(rolls), step % len(rolls) + 1)
                training.step(rolls[row].to(device), true[row].to(device))
        weights = {name: value.cpu() for name, value in training.network.state_dict().items()}
        save_tensors(path, {"weights": weights, "corrections": corrections})
    stored = torch.load(path, weights_only=True)
    network = Roll2Midi()
    network.load_state_dict(stored["weights"])
    return network.eval(), int(stored["corrections"])


def _live(out: Path, learn: Sequence[Path], seen: int, device: str) -> PianoNetwork:
    """Train the live network on crops that together are as many whole keyboards."""
    path = out / "live.pt"
    network = PianoNetwork()
    if not path.exists():
        s = TrainingSettings()
        crops = s.batch * s.crop_frames * s.crop_whites / WHITES
        s = replace(s, updates=max(1, round(seen / crops)))
        torch.manual_seed(0)
        network = fit(
            PianoNetwork(), lambda i: load_clip(learn[i % len(learn)]), s, lambda *_: None,
            device=device,
        )  # fmt: skip
        save_tensors(path, network.state_dict())
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def _rows(rival: Rival, validation: Sequence[Stored], test: Sequence[Stored]) -> list[Row]:
    raw = rival.probabilities
    share = best_frame_share(validation, raw, keys=KEYS, thresholds=THRESHOLDS)
    begin = best_threshold(validation, raw, keys=KEYS, thresholds=THRESHOLDS)
    rows = []
    for name, some in (("validation", validation), ("test", test)):
        scores = tally(some, levelled(raw, share), begin, keys=KEYS)
        rows.append({
            "network": rival.name, "clips": name, "frames_seen": rival.frames_seen,
            "begin": begin, "onset_f1_50ms": scores.tight.f1, "onset_f1_100ms": scores.loose.f1,
            "frame_f1": scores.frames.f1, "notes": scores.tight.true,
            "frame_ms": round(rival.frame_ms, 2), "look_ahead_ms": round(rival.look_ahead_ms),
        })  # fmt: skip
    return rows


class _Once:
    """Probabilities, computed once for each clip."""

    def __init__(self, of: Probabilities) -> None:
        self._of = of
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def __call__(self, strips: NDArray[np.uint8], left: int) -> NDArray[np.float32]:
        name = strips[::20].tobytes()
        if name not in self._known:
            self._known[name] = self._of(strips, left)
        return self._known[name]


@torch.no_grad()
def _ms(call: Callable[[], object], times: int) -> float:
    """Return milliseconds of the processor for each of so many, once warm."""
    call()
    began = time.process_time()
    call()
    return 1e3 * (time.process_time() - began) / times
