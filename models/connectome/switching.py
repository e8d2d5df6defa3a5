"""Spikes of a network whose connections change half-way, as a file to replay.

python -m models.connectome.switching --out switching.npz
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from models.connectome.simulations import SpikingNetwork


def switching(
    out: Annotated[Path, typer.Option(help="File to write, .npz; an existing one is replaced.")],
    units: Annotated[int, typer.Option(help="Units, 20 Hz each.")] = 20,
    seconds: Annotated[float, typer.Option(help="Length; the change is in the middle.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Of the networks and the spikes.")] = 0,
) -> None:
    """Simulate, and write counts in bins of 1 ms with the connections `before` and `after`."""
    networks = [SpikingNetwork.draw(units, seed + half) for half in range(2)]
    parts = [n.run(seconds / 2, seed + 100 + half) for half, n in enumerate(networks)]
    np.savez_compressed(
        out, counts=np.concatenate(parts).astype(np.uint8), width_s=networks[0].width_s,
        units=[f"unit{i:02d}" for i in range(units)],
        before=networks[0].weights, after=networks[1].weights,
    )  # fmt: skip


if __name__ == "__main__":
    typer.run(switching)
