"""Pipelines of toy nodes, written short."""

import json
from pathlib import Path
from typing import Any


def ticker(**settings: Any) -> dict[str, Any]:
    return {"use": "toy_nodes:Ticker", **settings}


def echo(source: Any, **settings: Any) -> dict[str, Any]:
    return {"use": "toy_nodes:Echo", "from": source, **settings}


def sink(source: Any, file: Path, **settings: Any) -> dict[str, Any]:
    return {"use": "toy_nodes:Sink", "from": source, "file": str(file), **settings}


def result(file: Path) -> Any:
    return json.loads(file.read_text())
