"""JSON Schema of pipeline files, made from the nodes that are installed."""

from __future__ import annotations

from typing import Any

from stream.node import Node, Source
from stream.registry import installed_nodes
from stream.units import HERTZ_PATTERN, SECONDS_PATTERN, format_hertz, format_seconds

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
_FORMATS = {SECONDS_PATTERN: format_seconds, HERTZ_PATTERN: format_hertz}
_OWN_CLASS = {
    "type": "object",
    "description": "a class of your own, as module:Class",
    "properties": {"use": {"type": "string", "pattern": ":"}, "group": _NAME},
    "required": ["use"],
}


def pipeline_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of pipeline files with nodes that can be loaded."""
    there, _ = installed_nodes()
    defs: dict[str, Any] = {}
    for use, cls in there.items():
        defs[use] = _node_schema(use, cls, defs)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "innervate pipeline",
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 64},
            "nodes": {
                "type": "object",
                "propertyNames": _NAME,
                "minProperties": 1,
                "additionalProperties": {
                    "oneOf": [*({"$ref": f"#/$defs/{u}"} for u in there), _OWN_CLASS]
                },
            },
            "realtime": {
                "type": "array",
                "description": "groups, or nodes without one, that ask for real-time priority",
                "items": _NAME,
            },
        },
        "required": ["nodes"],
        "additionalProperties": False,
        "$defs": defs,
    }


def settings_schema(cls: type[Node[Any]]) -> dict[str, Any]:
    """Return the JSON Schema of a node's settings, defaults written as in a pipeline file."""
    schema = cls.Settings.model_json_schema(ref_template="#/$defs/{model}")
    for setting in schema.get("properties", {}).values():
        write = _FORMATS.get(setting.get("pattern", ""))
        if write is not None and isinstance(setting.get("default"), int | float):
            setting["default"] = write(setting["default"])
    return schema


def _node_schema(use: str, cls: type[Node[Any]], defs: dict[str, Any]) -> dict[str, Any]:
    schema = settings_schema(cls)
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
