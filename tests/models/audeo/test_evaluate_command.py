from __future__ import annotations

import pytest

from models.commands.evaluate_piano import evaluate
from stream.errors import ModelError


def test_a_model_that_is_not_there_is_said_before_clips_are_rendered(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        evaluate("audeo", model=tmp_path / "no.onnx", rendered=tmp_path / "clips", clips=1)
    assert not (tmp_path / "clips").exists()
