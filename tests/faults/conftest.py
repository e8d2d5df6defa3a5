"""Pipelines that meet something bad, driven through the command line."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from innervate_command import Said, starting
from onnx import TensorProto, helper

from stream.model_file import METADATA_KEY, Contract, Port, to_json
from stream.recording_log import read_log

HERE = Path(__file__).parent
WIDTH_S = 0.005
UNITS = ("a", "b", "c")


@pytest.fixture
def write_pipeline(tmp_path: Path) -> Callable[..., Path]:
    def write(**nodes: dict[str, Any]) -> Path:
        path = tmp_path / "pipeline.yaml"
        path.write_text(yaml.safe_dump({"name": "faults", "nodes": nodes}, sort_keys=False))
        return path

    return write


@pytest.fixture
def innervate(innervate_here: Callable[..., Said]) -> Callable[..., Said]:
    return innervate_here


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `innervate` in a process of its own, whose workers find the sources beside this."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    with starting(PYTHONPATH=path, XDG_STATE_HOME=str(tmp_path / "state")) as start_command:
        yield start_command


@pytest.fixture(autouse=True)
def sources_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture
def packets_of_a_run() -> Callable[..., dict[str, int]]:
    """Wait until the log of a run holds `wanted` packets; return how many of each stream."""

    def wait(process: subprocess.Popen[str], log: Path, wanted: int) -> dict[str, int]:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
                raise AssertionError(f"the run ended early: {process.communicate()[0]}")
            if log.exists() and log.stat().st_size:
                seen = Counter(item.stream for item in read_log(log))
                if seen.total() >= wanted:
                    return seen

    return wait


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    def write(counts: Any = None, units: tuple[str, ...] = UNITS, **more: Any) -> Path:
        path = tmp_path / "counts.npz"
        if counts is None:
            counts = np.random.default_rng(0).poisson(0.3, (200, len(units)))
        np.savez(path, **{"counts": counts, "width_s": WIDTH_S, "units": units, **more})
        return path

    return write


@pytest.fixture
def model_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a model that turns counts per bin into rates, or one that is wrong in some way."""

    def write(units: tuple[str, ...] = UNITS, *, contract: bool = True, external: str = "") -> Path:
        def port(name: str, kind: str, unit: str) -> Port:
            return Port(
                name=name, kind=kind, shape=(len(units),), axes=("unit",), unit=unit,
                channels=units, period_s=WIDTH_S,
            )  # fmt: skip

        card = Contract(
            name="scale", version="1", task="rates",
            inputs=(port("counts", "counts", "count"),), outputs=(port("rates", "rates", "Hz"),),
        )  # fmt: skip
        size = [len(units)]
        factor = onnx.numpy_helper.from_array(np.full(len(units), 1 / WIDTH_S, np.float32), "k")
        if external:
            factor.ClearField("raw_data")
            factor.data_location = TensorProto.EXTERNAL
            factor.external_data.add(key="location", value=external)
        graph = helper.make_graph(
            [helper.make_node("Mul", ["counts", "k"], ["rates"])],
            "g",
            [helper.make_tensor_value_info("counts", TensorProto.FLOAT, size)],
            [helper.make_tensor_value_info("rates", TensorProto.FLOAT, size)],
            [factor],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        if contract:
            helper.set_model_props(model, {METADATA_KEY: to_json(card)})
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write
