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


def installed_nodes() -> tuple[dict[str, type[Node[Any]]], list[ConfigError]]:
    """Return every installed node class by its `use` name, and why others cannot be loaded."""
    there: dict[str, type[Node[Any]]] = {}
    broken: list[ConfigError] = []
    for use in node_names():
        try:
            there[use] = node_class(use)
        except ConfigError as error:
            broken.append(error)
    return there, broken


def node_class(use: str) -> type[Node[Any]]:
    """Return the node class that is called `use`, or that `module:Class` names.

    Raises
    ------
    ConfigError
        No installed package has such a node, it cannot be imported, or what is there is no node.
    """
    entry = _entries().get(use)
    try:
        found = entry.load() if entry else _by_path(use)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # the code of others may raise anything
        raise ConfigError(
            f"the node '{use}'{_origin(entry)} cannot be loaded:"
            f" {type(error).__name__}: {str(error).rstrip('.')}."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Node)):
        raise ConfigError(
            f"'{use}'{_origin(entry)} is no node class: it must derive from stream.node.Node."
        )
    return found


def _origin(entry: EntryPoint | None) -> str:
    """Say which package a node comes from: that is what must be repaired or uninstalled."""
    return f" of the package '{entry.dist.name}'" if entry and entry.dist else ""


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
