from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from ttl_box import Box

from stream.node import StreamSpec
from stream.packet import Packet
from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan

HERE = Path(__file__).parent
UNITS = ("u1", "u2", "u3")


def _rates(*values, age_ms=0.0, at_ms=0.0, segment=0, kind="rates", **meta):
    t_ns = time.monotonic_ns() - round(age_ms * 1e6)
    at_ns = round(at_ms * 1e6)
    data = np.array(values, np.float32)
    return Packet(kind, data, t_ns, at_ns, at_ns, segment=segment, meta=meta)


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path / "stim")
    yield made
    if made.link.is_symlink():
        made.unplug()


@pytest.fixture
def rates():
    """Return what makes a packet of rates, or of another kind of one value a name."""
    return _rates


@pytest.fixture
def rates_spec():
    return StreamSpec("rates", (3,), "float32", UNITS, "Hz", 0.02)


@pytest.fixture(scope="session")
def run_pipeline():
    """Return what runs nodes in real processes, with the toys of this folder to be had."""

    def run(folder: Path, *, duration_s=None, on_status=None, **nodes):
        before = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE), before]))
        try:
            path = folder / "loop.yaml"
            path.write_text(yaml.safe_dump({"name": "loop", "nodes": nodes}))
            return run_plan(
                load_pipeline(path), duration_s=duration_s, on_status=on_status,
                run_dir=folder / "run",
            )  # fmt: skip
        finally:
            os.environ["PYTHONPATH"] = before

    return run
