"""Pipelines of toy nodes, run in real processes."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.pipeline import load_pipeline
from stream.plan import Plan
from stream.runtime.process import Limits
from stream.runtime.report import Report
from stream.runtime.supervisor import run_plan

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def toys_can_be_imported_by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)


@pytest.fixture
def make_plan(tmp_path: Path) -> Callable[..., Plan]:
    def make(*, realtime: Sequence[str] = (), **nodes: dict[str, Any]) -> Plan:
        path = tmp_path / "toys.yaml"
        text = {"name": "toys", "nodes": nodes, "realtime": list(realtime)}
        path.write_text(yaml.safe_dump(text))
        return load_pipeline(path)

    return make


@pytest.fixture
def run(make_plan: Callable[..., Plan], tmp_path: Path) -> Callable[..., Report]:
    def start(
        *,
        duration_s: float | None = None,
        on_status: Any = None,
        limits: Limits | None = None,
        **nodes: Any,
    ) -> Report:
        return run_plan(
            make_plan(**nodes),
            duration_s=duration_s,
            on_status=on_status,
            run_dir=tmp_path / "run",
            limits=limits,
        )

    return start


@pytest.fixture
def sink_file(tmp_path: Path) -> Path:
    return tmp_path / "sink.json"
