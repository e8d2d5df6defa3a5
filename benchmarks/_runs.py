"""Runs of pipelines that benchmarks make up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from stream.errors import InnervateError
from stream.pipeline import load_pipeline
from stream.runtime.report import Report
from stream.runtime.supervisor import run_plan


def run_pipeline(
    pipeline: str | dict[str, Any],
    folder: Path,
    seconds: float | None = None,
    *,
    run_name: str = "run",
    on_status: Callable[[dict[str, Any]], object] | None = None,
) -> Report:
    """Run a pipeline, given as text or as what it says, in a folder, and return its report.

    Its files are taken from the folder; what the run leaves lies in the folder `run_name` there.

    Raises
    ------
    InnervateError
        The run failed.
    """
    path = folder / f"{run_name}.yaml"
    text = pipeline if isinstance(pipeline, str) else yaml.safe_dump(pipeline, sort_keys=False)
    path.write_text(text)
    report = run_plan(
        load_pipeline(path), duration_s=seconds, on_status=on_status, run_dir=folder / run_name
    )
    if report.exit:
        raise InnervateError(report.message)
    return report
