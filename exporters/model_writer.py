"""Put a graph and its contract into one file, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import onnx

from stream.errors import ModelError
from stream.model_file import METADATA_KEY, Contract, read_model, to_json


def write_model(model: onnx.ModelProto, contract: Contract, path: Path) -> None:
    """Write a model file and read it back; `path` changes only when all went well.

    Raises
    ------
    ModelError
        The file cannot be written, or the contract does not agree with the graph.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    onnx.helper.set_model_props(whole, {METADATA_KEY: to_json(contract)})
    partial: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".partial", delete=False
        ) as file:
            partial = Path(file.name)
            file.write(whole.SerializeToString())
            file.flush()
            os.fsync(file.fileno())
        read_model(partial)
        # Temporary files are private; a model file is made like any other file.
        umask = os.umask(0)
        os.umask(umask)
        partial.chmod(0o666 & ~umask)
        partial.replace(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be written ({error.strerror}).") from None
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
