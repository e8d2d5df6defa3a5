"""What a camera and a codec do to a picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.audeo.rendering.looks import Look
from models.audeo.rendering.performance import Random
from stream.vision.frames import Frame
from stream.vision.opencv import load_cv2

_BLOCK = 8


class Sensor:
    """Makes pictures smaller, blurred, noisy and compressed, one after the other.

    `size` is that of the pictures, width and height. A slanted view has fewer rows.
    """

    def __init__(self, rng: Random, look: Look, width: int, height: int, scale: int) -> None:
        self._cv2: Any = load_cv2("The renderer")
        self._rng, self._look = rng, look
        slant = look.camera_height / np.hypot(look.camera_height, look.camera_y - 3.5)
        shrink = look.px_per_white / scale
        self.size = (max(8, round(width * shrink)), max(8, round(height * shrink * slant)))
        self._shown: Frame | None = None
        self._before: Any = None
        w, h = self.size
        # Fresh noise for each picture is slow to draw; a window into a large one does as well.
        self._noise = rng.normal(0, look.noise, (h + 64, w + 64, 3)).astype(np.float32)

    def __call__(self, picture: Frame) -> Frame:
        """Return what comes out of the camera for a picture."""
        cv2, look, rng = self._cv2, self._look, self._rng
        small = cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA).astype(np.float32)
        if look.blur_px > 0.1:
            small = cv2.GaussianBlur(small, (0, 0), look.blur_px)
        if look.sharpen:
            small += look.sharpen * (small - cv2.GaussianBlur(small, (0, 0), 1.2))
        if look.blend and self._before is not None:
            # Codecs with frames between others mix neighbours.
            small = (1 - look.blend) * small + look.blend * self._before
        self._before = small
        top, left = rng.integers(0, 64, 2)
        small = small + self._noise[top : top + self.size[1], left : left + self.size[0]]
        frame = np.clip(small, 0, 255).astype(np.uint8)
        quality = [cv2.IMWRITE_JPEG_QUALITY, look.jpeg_quality]
        frame = cv2.imdecode(cv2.imencode(".jpg", frame, quality)[1], cv2.IMREAD_COLOR)
        return self._hold(frame)

    def _hold(self, frame: Frame) -> Frame:
        """Keep blocks that changed little as they were, as codecs do to save bits."""
        if not self._look.held_blocks:
            return frame
        if self._shown is None:
            self._shown = frame.copy()
            return frame
        height, width = frame.shape[:2]
        change = self._cv2.absdiff(frame, self._shown).max(axis=2).astype(np.float32)
        cells = (-(-width // _BLOCK), -(-height // _BLOCK))
        mean = self._cv2.resize(change, cells, interpolation=self._cv2.INTER_AREA)
        keep = self._cv2.resize(
            (mean < self._look.held_blocks * 2).astype(np.uint8), (width, height),
            interpolation=self._cv2.INTER_NEAREST,
        )  # fmt: skip
        self._shown = np.where(keep[..., None] > 0, self._shown, frame)
        return self._shown
