"""The model file of a recogniser does what the network does, and says what it is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from exporters.sesar import export_sesar
from models.sesar.dataset import CLASSES
from models.sesar.network import SesarConfig
from models.sesar.trained import SYSTEM, Card, Committee
from stream.errors import ModelError
from stream.inference import StreamingSession
from stream.model_file import read_contract


def committee() -> Committee:
    torch.manual_seed(0)
    config = SesarConfig(len(CLASSES), hidden=12)
    made = Committee(config, 2, temperature=1.4).eval()
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


CARD = Card(
    system=SYSTEM, network={}, members=2, classes=CLASSES, scores={"accuracy at 100 %": 0.5},
    threshold=0.7,
    trained_on={"name": "made up", "folders": ["/somewhere/private"]},
)  # fmt: skip


def poses(streams: int = 2, ticks: int = 90, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    steps = 0.05 * random.standard_normal((streams, ticks, 20, 3))
    return (steps.cumsum(1) + random.standard_normal((streams, 1, 20, 3))).astype(np.float32)


def test_each_tick_of_the_file_is_that_of_the_whole_run(tmp_path: Path) -> None:
    network = committee()
    path = tmp_path / "m.onnx"
    contract = export_sesar(network, CARD, "0123456789", poses(), path)
    assert contract == read_contract(path)
    session = StreamingSession(path, "cpu")
    for clip in poses(seed=5):
        session.reset()
        found = [session.step({"joints": pose})["probabilities"] for pose in clip]
        with torch.no_grad():
            expected = network(torch.from_numpy(clip)[None])[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_file_says_what_it_takes_and_keeps_private_what_is(tmp_path: Path) -> None:
    contract = export_sesar(committee(), CARD, "0123456789", poses(), tmp_path / "m.onnx")
    (fed,), (made,) = contract.inputs, contract.outputs
    assert (fed.kind, fed.shape, fed.unit, fed.period_s) == ("skeleton", (20, 3), "m", 0.1)
    assert (made.kind, made.channels, made.period_s) == ("probabilities", CLASSES, 0.1)
    assert contract.version == "01234567"
    assert contract.threshold == 0.7
    assert "private" not in str(contract)


class Dishonest(Committee):
    """Its whole run says something else than its step."""

    def forward(self, joints: torch.Tensor) -> torch.Tensor:
        return super().forward(joints) * 0.999


def test_nothing_is_written_when_step_and_whole_run_disagree(tmp_path: Path) -> None:
    network = Dishonest(committee().config, 2)
    with pytest.raises(ModelError, match="differs from the full run"):
        export_sesar(network, CARD, "0123456789", poses(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
