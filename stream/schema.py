"""JSON Schema of pipeline files, made from the nodes that are installed."""

from __future__ import annotations

from typing import Any

from stream.node import Source
from stream.registry import node_class, node_names

_LINK = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "stream": {"type": "string"},
                "deliver": {"type": "string", "pattern": "^(lossless|latest|queue [1-9][0-9]*)$"},
                "max_age": {"type": "string", "examples": ["100 ms"]},
            },
            "required": ["stream"],
            "additionalProperties": False,
        },
    ]
}
_NAME = {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,63}$"}


def pipeline_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of pipeline files."""
    defs: dict[str, Any] = {}
    for use in node_names():
        defs[use] = _node_schema(use, defs)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "innervate pipeline",
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "nodes": {
                "type": "object",
                "propertyNames": _NAME,
                "minProperties": 1,
                "additionalProperties": {"oneOf": [{"$ref": f"#/$defs/{u}"} for u in node_names()]},
            },
        },
        "required": ["nodes"],
        "additionalProperties": False,
        "$defs": defs,
    }


def _node_schema(use: str, defs: dict[str, Any]) -> dict[str, Any]:
    cls = node_class(use)
    schema = cls.Settings.model_json_schema(ref_template="#/$defs/{model}")
    defs.update(schema.pop("$defs", {}))
    required = ["use", *schema.get("required", [])]
    own: dict[str, Any] = {"use": {"const": use}, "group": _NAME}
    if not issubclass(cls, Source):
        own["from"] = {"anyOf": [*_LINK["anyOf"], {"type": "array", "items": _LINK}]}
        required.append("from")
    return {
        "type": "object",
        "description": cls.summary,
        "properties": {**own, **schema.get("properties", {})},
        "required": required,
        "additionalProperties": False,
    }
