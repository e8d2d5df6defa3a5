"""From recorded skeletons to labels, in a real run."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from innervate_command import innervate

from exporters.sesar import export_sesar
from models.sesar.augment import Augmentation
from models.sesar.dataset import CLASSES
from models.sesar.evaluation import plain_streams
from models.sesar.network import SesarConfig
from models.sesar.objectives import ClipLoss
from models.sesar.trained import SYSTEM, Card, Committee
from models.sesar.training import TrainingSettings, fit

PIPELINE = """
name: doing
nodes:
  person: {{use: skeletons.replay, file: clips, rate: {rate}, speed: max, group: see}}
  ticks:  {{use: skeletons.resample, from: person, period: {period}, group: see}}
  likely: {{use: model, from: ticks, file: actions.onnx, group: see}}
  doing:  {{use: actions, from: likely, begin: 0.55, end: 0.3, hold: 100 ms, group: see}}
"""


@pytest.fixture(scope="module")
def place(folders, actions, others, tmp_path_factory) -> Path:
    """Return a folder with a model that tells the stand-in's actions, and clips of one of them."""
    folder = tmp_path_factory.mktemp("live")
    torch.manual_seed(0)
    made = Committee(SesarConfig(len(CLASSES), hidden=24), 1)
    plain = Augmentation(mirror=0.0, joint_m=0.0, lost=0.0, still_root=0.0, speed=1.1, tilt_rad=0.0)
    loss = ClipLoss(actions, 32, plain)
    fit(made.members[0], loss, TrainingSettings(updates=150, batch=32, learning_rate=8e-3))
    card = Card(system=SYSTEM, network={}, members=1, classes=CLASSES)
    streams = plain_streams(actions, others, 2).joints.numpy()
    export_sesar(made, card, "0" * 8, streams, folder / "actions.onnx")
    (folder / "clips").mkdir()
    for path in sorted(folders[0].glob("a05_*_v03.json")):
        shutil.copy(path, folder / "clips")
    return folder


def run(place: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    given = {"rate": "15 Hz", "period": "100 ms"} | settings
    (place / "pipeline.yaml").write_text(PIPELINE.format(**given))
    path, report = place / "pipeline.yaml", place / "report.json"
    return innervate("run", path, "--report", report, cwd=place)


def test_an_action_is_seen_in_each_of_its_clips(place):
    done = run(place)
    assert done.returncode == 0, done.stderr
    nodes = json.loads((place / "report.json").read_text())["nodes"]
    notes = nodes["doing"]["notes"]
    assert notes["debounce_s"] == 0.1
    assert notes["begun"].get("sit down", 0) >= 2, notes
    assert nodes["ticks"]["packets_out"] == nodes["likely"]["packets_out"] > 25
    assert nodes["doing"]["dropped"] == {}


def test_a_model_of_another_clock_is_refused_before_the_start(place):
    done = run(place, period="50 ms")
    assert done.returncode == 2
    assert "takes one packet every 100 ms, 'ticks' has 50 ms" in " ".join(done.stderr.split())
