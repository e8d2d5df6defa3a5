"""Where OpenCV is loaded: only when a node needs it, and quietly."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

from stream.errors import InnervateError, MissingExtraError

# Read by OpenCV when it is loaded. What goes wrong is said by the node, in words of this project.
_ENVIRONMENT = {
    "OPENCV_LOG_LEVEL": "SILENT",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT": "2",
    # A picture from a socket may not ask for more memory than a packet may have.
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(2**26),
}


def load_cv2(what: str) -> Any:
    """Return the module `cv2`, one thread for each call into it.

    `what` needs it, in the words of an error: `The node 'camera'`.

    Raises
    ------
    MissingExtraError
        It is not installed.
    InnervateError
        It is, but a library of the system is not there.
    """
    return _load("cv2", what)


def load_solution(name: str, what: str) -> Any:
    """Return a module of `mediapipe.python.solutions`, such as `pose`.

    Raises
    ------
    MissingExtraError
        mediapipe is not installed, or is a version without these modules.
    InnervateError
        A library of the system is not there.
    """
    os.environ.setdefault("GLOG_minloglevel", "2")
    return _load(f"mediapipe.python.solutions.{name}", what)


def _load(module: str, what: str) -> Any:
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    try:
        cv2 = importlib.import_module("cv2")
        # More threads gain nothing at these sizes and disturb the nodes beside.
        cv2.setNumThreads(1)
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(what, "vision") from error
    except ImportError as error:
        raise InnervateError(
            f"{what} needs a library of the system that OpenCV cannot find ({error}); on Debian and"
            " Ubuntu: apt install libgl1 libglib2.0-0."
        ) from error
