"""A small stand-in for NW-UCLA and UTD-MHAD: stick figures, each action with a movement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from models.sesar.dataset import ACTIONS, Sequences, load_ucla, load_utd
from stream.vision.layouts import KINECT_20, UTD_MHAD_20, reorder

FILES = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
"""Numbers of the actions in the names of NW-UCLA's files."""


def standing() -> np.ndarray:
    """Return a person (20, 3) at 3 m, facing the camera."""
    at = {
        "hip_center": (0, 0), "spine": (0, 0.15), "shoulder_center": (0, 0.5), "head": (0, 0.7),
        "shoulder": (0.18, 0.45), "elbow": (0.25, 0.2), "wrist": (0.27, -0.05),
        "hand": (0.27, -0.12), "hip": (0.1, -0.02), "knee": (0.12, -0.45), "ankle": (0.12, -0.85),
        "foot": (0.12, -0.9),
    }  # fmt: skip
    joints = np.zeros((20, 3))
    for number, joint in enumerate(KINECT_20.joints):
        side, _, name = joint.partition("_")
        x, y = at[name] if side in {"left", "right"} else at[joint]
        joints[number] = (-x if side == "right" else x, y, 3.0)
    return joints


def acting(action: int, frames: int, random: np.random.Generator) -> np.ndarray:
    """Return (frames, 20, 3) of one of ten movements: two hands go to one of five places."""
    t = np.linspace(0, np.pi, frames)[:, None]
    pose = np.repeat(standing()[None], frames, 0)
    angle = 2 * np.pi * (action % 5) / 5
    towards = 0.5 * np.array([np.cos(angle), np.sin(angle), 0.0])
    hands = ("left_hand", "left_wrist") if action < 5 else ("right_hand", "right_wrist")
    for joint in hands:
        pose[:, KINECT_20.index(joint)] += np.sin(t) * towards
    pose += 0.005 * random.standard_normal(pose.shape)
    turn = random.uniform(-1, 1)
    c, s = np.cos(turn), np.sin(turn)
    return pose @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Networks as small as these are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return folders with files like those of NW-UCLA and of UTD-MHAD."""
    random = np.random.default_rng(0)
    ucla, utd = tmp_path_factory.mktemp("ucla"), tmp_path_factory.mktemp("utd")
    for action in range(len(ACTIONS)):
        for subject in (1, 2, 3):
            for view in (1, 2, 3):
                frames = acting(action, int(random.integers(15, 30)), random)
                name = f"a{FILES[action]:02}_s{subject:02}_e00_v{view:02}"
                content = {"file_name": name, "skeletons": frames.tolist(), "label": action + 1}
                (ucla / f"{name}.json").write_text(json.dumps(content))
    for action in (1, 5, 22, 24):
        for subject in (1, 2, 3, 4):
            frames = reorder(acting(action % 10, 50, random), KINECT_20, UTD_MHAD_20)
            savemat(
                utd / f"a{action}_s{subject}_t1_skeleton.mat",
                {"d_skel": frames.transpose(1, 2, 0)},
            )
    return ucla, utd


@pytest.fixture(scope="session")
def actions(folders: tuple[Path, Path]) -> Sequences:
    """Return the stand-in for NW-UCLA."""
    return load_ucla(folders[0])


@pytest.fixture(scope="session")
def others(folders: tuple[Path, Path]) -> Sequences:
    """Return the stand-in for UTD-MHAD."""
    return load_utd(folders[1])
