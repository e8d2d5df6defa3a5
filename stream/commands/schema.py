"""`innervate schema`: the JSON Schema of pipeline files."""

from __future__ import annotations

import json

import typer

from stream.schema import pipeline_schema


def schema() -> None:
    """Print the JSON Schema of pipeline files, for editors."""
    typer.echo(json.dumps(pipeline_schema(), indent=2))
