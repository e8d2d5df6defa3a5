"""YAML with places: plain values, and the line that each key came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stream.errors import ConfigError
from stream.files import has_utf8_name

SIZE_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Located:
    """A value read from a YAML file.

    Attributes
    ----------
    value
        Plain Python: dict, list, str, int, float, bool or None.
    lines
        Path of keys and indices to the line (from 1) on which that key or item stands.
    """

    value: Any
    lines: dict[tuple[str | int, ...], int]

    def line(self, *path: str | int) -> int:
        """Return the line of the nearest known place on the way to `path`."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return 1


def read_yaml(path: Path) -> Located:
    """Read a YAML file and remember the line of every key.

    Raises
    ------
    ConfigError
        The file is not there, too large, no YAML, has a key twice, or uses aliases.
    """
    if not has_utf8_name(path):
        raise ConfigError(f"{path}: the name of the file or a folder is not in UTF-8; rename it.")
    try:
        if path.stat().st_size > SIZE_LIMIT_BYTES:
            raise ConfigError(f"{path}: larger than 1 MiB, which no such file of YAML is.")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is no text in UTF-8, so no YAML.") from None
    loader = yaml.SafeLoader(text)
    plain = _Plain(loader, path)
    try:
        root = loader.get_single_node()
        value = None if root is None else plain.read(root, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: is not valid YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}.") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply to be read.") from None
    finally:
        loader.dispose()
    return Located(value, plain.lines)


class _Plain:
    def __init__(self, loader: yaml.SafeLoader, path: Path) -> None:
        self.loader = loader
        self.path = path
        self.lines: dict[tuple[str | int, ...], int] = {}
        self._met: set[int] = set()

    def read(self, node: yaml.Node, place: tuple[str | int, ...]) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        # An alias is the same node met twice; small files of aliases can unfold to huge values.
        if id(node) in self._met:
            raise ConfigError(
                f"{self.path}:{line}: YAML aliases (*name) are not used here; write it out."
            )
        self._met.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*place, index)) for index, item in enumerate(node.value)]
        return self.loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, place: tuple[str | int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(self.loader.construct_object(key_node))
            line = key_node.start_mark.line + 1
            if key in result:
                raise ConfigError(
                    f"{self.path}:{line}: the key '{key}' stands here and on line"
                    f" {self.lines[(*place, key)]}; keep one of them."
                )
            self.lines[(*place, key)] = line
            result[key] = self.read(value_node, (*place, key))
        return result
