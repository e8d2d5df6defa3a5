"""Where commands write: tried before long work, and refused in one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from stream.errors import ConfigError


def check_file(option: str, path: Path | None) -> None:
    """Refuse a place where a file could not be written.

    Raises
    ------
    ConfigError
        It is a folder, or in a folder that is not there or may not be written to.
    """
    if path is not None and (
        path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK)
    ):
        raise ConfigError(
            f"{option}: {path} cannot be written; give a file in a folder that is there."
        )


def check_folder(option: str, path: Path) -> None:
    """Refuse a place where no folder could be made, without making one.

    Raises
    ------
    ConfigError
        It is no folder, or lies in none that may be written to.
    """
    there = next(part for part in (path, *path.absolute().parents) if part.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        why = "may not be written to" if there.is_dir() else "is a file"
        raise ConfigError(f"{option}: {path} cannot be a folder: {there} {why}.")


def make_folder(option: str, path: Path | None) -> None:
    """Make a folder, unless it is there.

    Raises
    ------
    ConfigError
        It is no folder, or lies where none can be made.
    """
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{option}: {path} cannot be a folder: {error.strerror}.") from None


def write_json(option: str, path: Path, content: dict[str, Any]) -> None:
    """Write a file of JSON, indented.

    Raises
    ------
    ConfigError
        It cannot be written.
    """
    try:
        path.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"{option}: {path} cannot be written: {error.strerror}.") from None
