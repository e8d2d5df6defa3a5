"""Finds the class behind a `use:` of a pipeline file."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from stream.errors import ConfigError
from stream.node import Node


@cache
def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="innervate.nodes")}


def node_names() -> tuple[str, ...]:
    """Return the `use` names of every installed node, in alphabetical order."""
    return tuple(sorted(_entries()))


def node_class(use: str) -> type[Node[Any]]:
    """Return the node class that is called `use`, or that `module:Class` names.

    Raises
    ------
    ConfigError
        No installed package has such a node, or what is there is no node.
    """
    try:
        found = _entries()[use].load() if use in _entries() else _by_path(use)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the node '{use}' cannot be loaded: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Node)):
        raise ConfigError(f"'{use}' is no node class: it must derive from stream.node.Node")
    return found


def _by_path(use: str) -> object:
    module, colon, name = use.partition(":")
    if not colon:
        near = difflib.get_close_matches(use, node_names(), n=1, cutoff=0.4)
        hint = f"did you mean '{near[0]}'?" if near else "`innervate nodes` lists what there is."
        raise ConfigError(f"there is no node '{use}'; {hint}")
    return getattr(importlib.import_module(module), name)


def make_node(use: str, settings: Mapping[str, Any]) -> Node[Any]:
    """Make a node from settings that were validated before, as a `NodePlan` holds them."""
    cls = node_class(use)
    return cls(cls.Settings.model_validate(settings))
