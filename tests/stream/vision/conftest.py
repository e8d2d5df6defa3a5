"""Videos, cameras and people that tests of vision share."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from innervate_command import starting_runs
from vision_doubles import MjpegCamera, numbered

_NEEDS_OPENCV = {
    "test_action_runs", "test_camera", "test_keypoints", "test_overlay", "test_overlay_music",
    "test_video", "test_vision_runs", "test_window",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the extra 'vision' where it is not installed; in CI it must be."""
    if find_spec("cv2") is not None or os.environ.get("CI") == "true":
        return
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.path.stem in _NEEDS_OPENCV:
            item.add_marker(pytest.mark.skip(reason="needs the extra 'vision'"))


@pytest.fixture
def write_video(tmp_path: Path) -> Callable[..., Path]:
    """Write a video of numbered frames at a fixed rate; the ending tells the container."""

    def write(
        name: str = "clip.avi",
        frames: int = 20,
        rate: float = 10.0,
        size: tuple[int, int] = (160, 120),
    ) -> Path:
        import cv2

        path = tmp_path / name
        code = "MJPG" if path.suffix == ".avi" else "mp4v"
        out = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*code), rate, size)
        for number in range(frames):
            out.write(numbered(number, size))
        out.release()
        return path

    return write


def _element(code: int, content: bytes) -> bytes:
    """An element of EBML: its code, the length of its content in 8 bytes, and that."""
    return (
        code.to_bytes(-(-code.bit_length() // 8))
        + struct.pack(">Q", 2**56 | len(content))
        + content
    )


def _number(code: int, value: int) -> bytes:
    return _element(code, value.to_bytes(8))


@pytest.fixture
def write_irregular_video(tmp_path: Path) -> Callable[[Iterable[int]], Path]:
    """Write a Matroska file of numbered pictures that were taken at these times, in ms."""

    def write(times_ms: Iterable[int]) -> Path:
        import cv2

        times = list(times_ms)
        head = _element(
            0x1A45DFA3, _element(0x4282, b"matroska") + _number(0x4287, 4) + _number(0x4285, 2)
        )
        picture = _number(0xB0, 160) + _number(0xBA, 120)
        track = (
            _number(0xD7, 1) + _number(0x73C5, 1) + _number(0x83, 1) + _element(0x86, b"V_MJPEG")
        )
        clusters = b"".join(
            _element(
                0x1F43B675,
                _number(0xE7, time)
                + _element(
                    0xA3,
                    b"\x81\x00\x00\x80"
                    + cv2.imencode(".jpg", numbered(number), [cv2.IMWRITE_JPEG_QUALITY, 95])[
                        1
                    ].tobytes(),
                ),
            )
            for number, time in enumerate(times)
        )
        info = _number(0x2AD7B1, 1_000_000) + _element(0x4489, struct.pack(">d", times[-1]))
        tracks = _element(0x1654AE6B, _element(0xAE, track + _element(0xE0, picture)))
        path = tmp_path / "irregular.mkv"
        path.write_bytes(
            head + _element(0x18538067, _element(0x1549A966, info) + tracks + clusters)
        )
        return path

    return write


@pytest.fixture
def mjpeg_camera() -> Iterator[Callable[..., MjpegCamera]]:
    cameras = []

    def make(script: Callable[[int], Iterable[Any]]) -> MjpegCamera:
        camera = MjpegCamera(script)
        cameras.append(camera)
        return camera

    yield make
    for camera in cameras:
        camera.close()


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """A photograph of a person (Grace Hopper, public domain), which matplotlib brings."""
    import cv2
    from matplotlib import cbook

    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture
def start(tmp_path: Path):
    """Start `innervate run` on these nodes; return the process and where its report will be."""
    with starting_runs(tmp_path) as start_run:
        yield start_run
