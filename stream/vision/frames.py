"""What a stream of frames is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.errors import ConfigError
from stream.node import StreamSpec
from stream.packet import Packet

Frame = NDArray[np.uint8]
"""An image: height x width x 3, blue, green and red from 0 to 255."""

COLOURS = ("blue", "green", "red")
_META = {"colours": "bgr"}


def frame_spec(
    height: int, width: int, period_s: float | None, meta: Mapping[str, Any]
) -> StreamSpec:
    """Return the specification of a stream of frames, uint8 in the colour order of `COLOURS`.

    `period_s` is the nominal interval between frames, None when it is not known or varies.
    """
    return StreamSpec("frame", (height, width, 3), "uint8", COLOURS, "", period_s, meta)


def frame_packet(frame: Frame, t_ns: int, source_ns: int, segment: int, gap: int = 0) -> Packet:
    """Make the packet of a frame; `source_ns` is its time on the clock of the source."""
    return Packet("frame", frame, t_ns, source_ns, source_ns, segment=segment, gap=gap, meta=_META)


def check_frames(use: str, stream: str, spec: StreamSpec) -> tuple[int, int]:
    """Return height and width of the frames that a stream carries.

    Raises
    ------
    ConfigError
        The stream carries other arrays, frames of no fixed size, or another order of colours.
    """
    height, width, channels = spec.shape if len(spec.shape) == 3 else (None, None, None)
    if spec.dtype != "uint8" or not height or not width or channels != 3:
        raise ConfigError(
            f"'{use}' takes frames of uint8 with shape height x width x 3, '{stream}' carries"
            f" {spec.dtype} with shape {list(spec.shape)}."
        )
    if spec.names != COLOURS:
        raise ConfigError(
            f"'{use}' takes frames in the order {', '.join(COLOURS)}, '{stream}' has"
            f" {', '.join(spec.names) or 'none that it names'}."
        )
    return height, width
