"""Draws docs/piano.jpg: a rendered pianist, filmed from above, heard and drawn by the pipeline.

Run from the checkout: python docs/piano_picture.py
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import yaml

from models.audeo.rendering.clip import film
from models.audeo.rendering.looks import draw_look
from models.audeo.rendering.performance import perform, reachable
from models.audeo.rendering.scores import read_scores
from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan
from stream.units import to_ns
from stream.vision.video_file import VideoFile
from stream.vision.video_writer import VideoWriter

HERE = Path(__file__).parent
PIPELINE = HERE.parent / "configs" / "piano-to-sound.yaml"
SIZE = (960, 540)
STILL_S, AT_S, LENGTH_S = 4.0, 9.6, 11.0


def main() -> None:
    """Render, run, and keep a frame."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_film(folder / "clip.mp4", folder)
        pipeline = yaml.safe_load(PIPELINE.read_text())
        nodes = pipeline["nodes"]
        nodes["camera"]["file"] = str(folder / "clip.mp4")
        nodes["press"]["file"] = str((PIPELINE.parent / nodes["press"]["file"]).resolve())
        del nodes["score"], nodes["sound"]
        nodes["saved"]["file"] = str(folder / "drawn.mp4")
        path = folder / "picture.yaml"
        path.write_text(yaml.safe_dump(pipeline, sort_keys=False))
        report = run_plan(load_pipeline(path), run_dir=folder / "run")
        assert report.exit == 0, report.message
        shown = next(frame for _, frame in VideoFile(folder / "drawn.mp4").frames(AT_S))
        cv2.imwrite(str(HERE / "piano.jpg"), shown, [cv2.IMWRITE_JPEG_QUALITY, 88])


def write_film(path: Path, cache: Path) -> None:
    """Write a film in which somebody plays a mazurka, after a while of nothing."""
    rng = np.random.default_rng(11)
    (score,) = read_scores(["chopin/mazurka06-2.krn"], cache)
    look = replace(
        draw_look(rng, "digital"), rate_hz=30.0, gain=1.0, camera_height=45.0, camera_y=5.0,
        camera_u=26.0, noise=1.0, gradient_u=0.03, gradient_y=0.0, blotches=0.02, blend=0.0,
        held_blocks=0.0, jpeg_quality=92, exposure_share=0.0, floor=np.array([70.0, 80.0, 88.0]),
        floor_texture=5.0, skin=np.array([140.0, 172.0, 218.0]), tint=np.ones(3),
    )  # fmt: skip
    notes = [replace(n, beat=n.beat - 24) for n in score.notes if 24 <= n.beat < 44]
    presses = [
        replace(p, bottom_s=p.bottom_s + STILL_S, release_s=p.release_s + STILL_S)
        for p in perform(rng, reachable(notes), 0.42, LENGTH_S - STILL_S)
    ]
    frames, _ = film(rng, look, presses, size=SIZE, length_s=LENGTH_S)
    video = VideoWriter(path, SIZE, 30.0)
    for number, frame in enumerate(frames):
        video.write(frame, to_ns(number / 30))
    video.close()


if __name__ == "__main__":
    main()
