"""Files of many formats as trees of variables, and paths that find variables in them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError, MissingExtraError, RecordingError
from stream.files import MAX_BYTES, check_there, first_line
from stream.spikes.mapping import Binary, File
from stream.spikes.npz import npz_arrays

Tree = Any
"""A dict by name, a list, an array, a text, or an HDF5 data set that is read when asked for."""

_HDF5 = (".h5", ".hdf5", ".hdf", ".nwb")
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": r"\s+"}
_SUFFIXES = (".mat", ".npy", ".npz", *_HDF5, *_SEPARATORS)


@dataclass(frozen=True)
class Found:
    """A variable that a path led to, and what its wildcards stood for."""

    value: Tree
    captured: tuple[str, ...] = ()


def open_file(path: Path, stack: ExitStack, how: File | None = None) -> Tree:
    """Return the variables of a file as a tree. HDF5 files stay open as long as `stack`.

    Raises
    ------
    RecordingError
        The file is not there, too large, or cannot be read.
    ConfigError
        Its format cannot be told.
    MissingExtraError
        Its format needs packages that are not installed.
    """
    check_there(path)
    # Of an HDF5 file, version 7.3 of MATLAB included, only what is asked for is read.
    size = path.stat().st_size
    if size > MAX_BYTES and path.suffix.lower() not in (*_HDF5, ".mat"):
        raise RecordingError(
            f"{path} has {size / 2**30:.1f} GiB, more than the {MAX_BYTES / 2**30:.0f} GiB that are"
            " read."
        )
    try:
        return _open(path, stack, how or File(match="*"))
    except (ConfigError, RecordingError, MissingExtraError):
        raise
    except ImportError as error:
        raise MissingExtraError(f"Reading {path.name}", "nwb") from error
    except Exception as error:  # each format's library has its own kinds
        raise RecordingError(f"{path} cannot be read ({first_line(error)}).") from error


def _open(path: Path, stack: ExitStack, how: File) -> Tree:
    suffix = path.suffix.lower()
    tree: Tree = None
    if how.binary is not None:
        tree = _records(path, how.binary)
    elif how.format == "rows":
        tree = _rows(path)
    elif suffix == ".mat":
        tree = _matlab(path, stack)
    elif suffix == ".npy":
        tree = {"data": np.load(path, allow_pickle=False)}
    elif suffix == ".npz":
        tree = npz_arrays(path)
    elif suffix in _HDF5:
        tree = _hdf5(path, stack)
    elif suffix in _SEPARATORS or how.format == "csv":
        tree = _table(path, _SEPARATORS.get(suffix, ","))
    if tree is not None:
        return tree
    raise ConfigError(
        f"{path}: files called '{suffix}' have no format that is known ({', '.join(_SUFFIXES)});"
        " say in the mapping, under 'files', what it is: 'binary' with a 'dtype', or 'format'."
    )


def _matlab(path: Path, stack: ExitStack) -> Tree:
    import h5py

    if h5py.is_hdf5(path):  # version 7.3
        return _hdf5(path, stack)
    from scipy.io import loadmat

    content = loadmat(path, struct_as_record=True, squeeze_me=False, chars_as_strings=True)
    return {k: _from_matlab(v) for k, v in content.items() if not k.startswith("__")}


def _from_matlab(value: Any) -> Tree:
    """Return structs as dicts, arrays of structs and cells as lists, the rest as it is."""
    if not isinstance(value, np.ndarray):
        return _full(value) if hasattr(value, "toarray") else value
    if value.dtype.names:
        elements = [
            {name: _from_matlab(element[name]) for name in value.dtype.names}
            for element in value.ravel(order="F")
        ]
        return elements[0] if value.size == 1 else elements
    if value.dtype.kind == "O":
        return [_from_matlab(element) for element in value.ravel(order="F")]
    if value.dtype.kind in "US":
        return str(value.item()) if value.size == 1 else [str(v) for v in value.ravel()]
    return value


def _hdf5(path: Path, stack: ExitStack) -> Tree:
    import h5py

    file = stack.enter_context(h5py.File(path, "r"))
    return _from_hdf5(file)


def _from_hdf5(node: Any) -> Tree:
    import h5py

    if isinstance(node, h5py.Group):
        members = {
            name: _from_hdf5(node[name])
            for name in node
            # References of MATLAB live in `#refs#`; links to other files are not followed.
            if not name.startswith("#")
            and not isinstance(node.get(name, getlink=True), h5py.ExternalLink)
        }
        # MATLAB 7.3 writes an array of structs as a group of fields, each a list of references of
        # no class; in one struct whose fields are cells, each list has the class `cell`.
        if (
            node.attrs.get("MATLAB_class") == b"struct"
            and members
            and all(
                isinstance(member, list) and "MATLAB_class" not in node[name].attrs
                for name, member in members.items()
            )
        ):
            return [
                dict(zip(members, row, strict=True)) for row in zip(*members.values(), strict=True)
            ]
        if "MATLAB_sparse" in node.attrs:
            return _sparse(members, int(node.attrs["MATLAB_sparse"]))
        return members
    if h5py.check_ref_dtype(node.dtype) is h5py.Reference:
        references = np.asarray(node[()]).T.ravel(order="F")
        return [_from_hdf5(node.file[reference]) for reference in references]
    return node


def _sparse(parts: dict[str, Any], n_rows: int) -> NDArray[Any]:
    """Return a sparse matrix of MATLAB 7.3 in full; only what is not zero lies in the file."""
    from scipy.sparse import csc_matrix

    ends = as_array(parts["jc"])
    data, rows = (as_array(parts[k]) if k in parts else np.empty(0) for k in ("data", "ir"))
    return _full(csc_matrix((data, rows, ends), shape=(n_rows, len(ends) - 1)))


def _full(matrix: Any) -> NDArray[Any]:
    size = int(np.prod(matrix.shape)) * matrix.dtype.itemsize
    if size > MAX_BYTES:
        raise RecordingError(
            f"a sparse matrix unpacks to {size / 2**30:.1f} GiB, more than the"
            f" {MAX_BYTES / 2**30:.0f} GiB that are read"
        )
    return np.asarray(matrix.toarray())


def as_array(value: Tree) -> NDArray[Any]:
    """Return the array that a leaf of a tree holds.

    Raises
    ------
    RecordingError
        It is larger than is read, or no array at all.
    """
    if hasattr(value, "attrs") and hasattr(value, "shape"):
        size = int(np.prod(value.shape)) * value.dtype.itemsize
        if size > MAX_BYTES:
            raise RecordingError(
                f"{value.name} takes {size / 2**30:.1f} GiB, more than the"
                f" {MAX_BYTES / 2**30:.0f} GiB that are read."
            )
        kind = value.attrs.get("MATLAB_class")
        if value.attrs.get("MATLAB_empty"):
            return np.empty((0, 0))
        array = np.asarray(value[()])
        if kind == b"char":
            rows = ["".join(map(chr, row)) for row in np.atleast_2d(array.T)]
            return np.array(rows[0] if len(rows) == 1 else rows)
        if array.dtype.kind == "O":
            array = np.array(
                [v.decode() if isinstance(v, bytes) else str(v) for v in array.ravel()]
            )
        # MATLAB writes its columns first, HDF5 reads rows first.
        return array.T if kind is not None else array
    if isinstance(value, list):
        members = [as_array(member) for member in value]
        if any(member.size > 1 for member in members):
            raise RecordingError(
                f"a list of {len(members)} arrays, not one ('{{1}}' names the first; axes that"
                " begin with 'trial' take each as a trial)"
            )
        return np.array([member.item() if member.size else "" for member in members])
    if isinstance(value, dict):
        raise RecordingError(f"a group of variables ({', '.join(islice(value, 6))}), not one")
    return np.asarray(value)


def _table(path: Path, separator: str) -> Tree:
    import pandas

    with path.open(encoding="utf-8") as file:
        first = next((line for line in file if line.strip() and not line.startswith("#")), "")
    if separator == "," and separator not in first and ";" in first:
        separator = ";"  # as spreadsheets write it where the comma marks decimals
    words = re.split(separator, first.strip()) if len(separator) > 1 else first.split(separator)
    has_names = not all(_is_number(word) for word in words)
    frame = pandas.read_csv(
        path, sep=separator, header=0 if has_names else None, comment="#", skipinitialspace=True
    )
    if not has_names:
        return {"data": frame.to_numpy()}
    return {
        str(name).strip(): column.to_numpy()
        if column.dtype.kind in "fiub"
        else column.astype(str).to_numpy(dtype=str)
        for name, column in frame.items()
    }


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return not word.strip()
    return True


def _rows(path: Path) -> Tree:
    with path.open(encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith("#")]
    return {
        "rows": [np.array(re.split(r"[\s,;]+", line.strip(" \t\r\n,;")), dtype=np.float64)
                 if line.strip() else np.empty(0) for line in lines]
    }  # fmt: skip


def _records(path: Path, binary: Binary) -> Tree:
    try:
        dtype = np.dtype([(name, kind) for name, kind in binary.dtype.items()])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"'dtype' of the binary file {path.name}: {error}.") from None
    if dtype.hasobject or not dtype.itemsize:
        raise ConfigError(f"'dtype' of the binary file {path.name} must be of numbers.")
    content = path.read_bytes()
    start = 0
    if binary.header_ends is not None:
        mark = binary.header_ends.encode()
        place = content.find(mark)
        if place < 0:
            raise RecordingError(f"{path} has no header that ends with {binary.header_ends!r}.")
        start = place + len(mark)
    rest = (len(content) - start) % dtype.itemsize
    if rest:
        raise RecordingError(
            f"{path} ends inside a record: {rest} bytes follow the last whole record of"
            f" {dtype.itemsize} bytes; it is truncated, or 'dtype' or 'header_ends' is wrong."
        )
    records = np.frombuffer(content, dtype=dtype, offset=start)
    return {name: records[name] for name in binary.dtype}


def find(tree: Tree, path: str) -> list[Found]:
    """Return what a path leads to, in the order of the file; empty when it leads nowhere."""
    return list(_walk(tree, path, ()))


def _walk(node: Tree, rest: str, captured: tuple[str, ...]) -> Iterator[Found]:
    rest = rest.lstrip("./")
    if not rest:
        yield Found(node, captured)
    elif isinstance(node, dict):
        if rest in node:  # names that contain a dot
            yield Found(node[rest], captured)
            return
        step = re.match(r"[^./{]+", rest)
        if step is None:
            return
        name, after = step.group(), rest[step.end() :]
        if "*" in name or "?" in name:
            for key in fnmatch.filter(node, name):
                yield from _walk(node[key], after, (*captured, *_stars(name, key)))
        elif name in node:
            yield from _walk(node[name], after, captured)
    elif isinstance(node, list):
        step = re.match(r"\{(\*|\d+)\}", rest)
        if step is None:
            return
        index, after = step.group(1), rest[step.end() :]
        if index == "*":
            for i, element in enumerate(node, start=1):
                yield from _walk(element, after, (*captured, str(i)))
        elif 1 <= int(index) <= len(node):
            yield from _walk(node[int(index) - 1], after, captured)


def _stars(pattern: str, key: str) -> tuple[str, ...]:
    parts = [re.escape(part) for part in re.split(r"[*?]", pattern)]
    match = re.fullmatch("(.*)".join(parts), key)
    return match.groups() if match else (key,)


def describe(tree: Tree, limit: int = 40) -> list[str]:
    """Return a line for each variable of a tree: its path, shape and type."""
    lines = list(islice(_lines(tree, ""), limit + 1))
    return [*lines[:limit], "..."] if len(lines) > limit else lines


def _lines(node: Tree, path: str) -> Iterator[str]:
    if isinstance(node, dict):
        for name, member in node.items():
            yield from _lines(member, f"{path}.{name}" if path else str(name))
    elif isinstance(node, list):
        filled = next((e for e in node if not _is_empty(e)), None)
        if isinstance(filled, dict | list):
            yield from _lines(filled, f"{path}{{*}}")
        else:
            what = f", such as {_leaf(filled)}" if filled is not None else ""
            yield f"{path}{{1}}..{{{len(node)}}}: list of {len(node)}{what}"
    else:
        yield f"{path}: {_leaf(node)}"


def _is_empty(node: Tree) -> bool:
    if isinstance(node, list):
        return all(_is_empty(e) for e in node)
    return getattr(node, "size", 1) == 0


def _leaf(node: Tree) -> str:
    shape = getattr(node, "shape", None)
    if shape is None:
        return repr(node)[:40]
    attributes = getattr(node, "attrs", {})
    if attributes.get("MATLAB_class") == b"char":
        return "text"
    if "MATLAB_class" in attributes:
        shape = shape[::-1]  # as MATLAB and mappings count them
    return f"{' x '.join(map(str, shape)) or 'one'} {node.dtype}"


def open_files(paths: Sequence[Path], files: dict[str, File], stack: ExitStack) -> list[Tree]:
    """Return the tree of each file, or, when the mapping names files, one tree of all by name.

    Raises
    ------
    ConfigError
        A named file has no file that fits, or several, or a file has no name.
    """
    if not files:
        return [open_file(path, stack) for path in paths]
    tree: dict[str, Tree] = {}
    left = list(paths)
    for name, how in files.items():
        fitting = [path for path in paths if fnmatch.fnmatch(path.name, how.match)]
        if not fitting or (len(fitting) > 1 and not how.many):
            given = ", ".join(path.name for path in fitting or paths)
            raise ConfigError(
                f"key 'files.{name}': {len(fitting) or 'none'} of the files given fit"
                f" '{how.match}' ({given}); "
                + ("'many: true' allows several." if fitting else "name such a file too.")
            )
        left = [path for path in left if path not in fitting]
        trees = {path.stem: open_file(path, stack, how) for path in fitting}
        tree[name] = trees if how.many else trees[fitting[0].stem]
    if left:
        raise ConfigError(
            f"{left[0].name} fits no 'match' under 'files' of the mapping"
            f" ({', '.join(how.match for how in files.values())})."
        )
    return [tree]
