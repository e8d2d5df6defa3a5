"""Plots of a recogniser: what it confuses, and how its latents lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from models.sesar.augment import Sampler
from models.sesar.dataset import ACTIONS, Sequences
from models.sesar.network import Sesar
from models.sesar.objectives import summary
from models.sesar.trained import load_trained


@torch.no_grad()
def latents(network: Sesar, sequences: Sequences, chunk: int = 128) -> NDArray[np.float64]:
    """Return what an encoder makes of whole sequences, (sequences, 2 hidden)."""
    sampler = Sampler(sequences)
    network.eval()
    found = np.zeros((len(sequences), 2 * network.config.hidden))
    for chosen in torch.from_numpy(np.argsort(sequences.length)).split(chunk):
        clips = sampler.whole(chosen)
        found[chosen.numpy()] = summary(network.encode(clips.joints), clips.length).numpy()
    return found


def write_plots(
    folder: Path, sequences: Sequences, matrix: NDArray[np.int64], out: Path
) -> list[Path]:
    """Draw the confusion matrix and a t-SNE of the latents of a trained recogniser."""
    from matplotlib.figure import Figure

    out.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(7, 6), layout="constrained")
    axes: Any = figure.subplots()
    image = axes.imshow(matrix / matrix.sum(1, keepdims=True), vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(len(ACTIONS)), ACTIONS, rotation=60, ha="right")
    axes.set_yticks(range(len(ACTIONS)), ACTIONS)
    axes.set(xlabel="taken for", ylabel="shown")
    figure.colorbar(image, label="share of sequences")
    paths = [out / "confusion.png", out / "tsne.png"]
    figure.savefig(paths[0], dpi=120)
    member = load_trained(folder).network.members[0]
    assert isinstance(member, Sesar)
    neighbours = min(30.0, (len(sequences) - 1) / 3)
    points = TSNE(perplexity=neighbours, random_state=0).fit_transform(latents(member, sequences))
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    for number, name in enumerate(ACTIONS):
        own = points[sequences.label == number]
        axes.scatter(own[:, 0], own[:, 1], s=12, color=f"C{number}", label=name)
    axes.set(xticks=[], yticks=[], title="t-SNE of the first network's latents")
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(paths[1], dpi=120)
    return paths
