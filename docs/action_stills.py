"""Takes docs/action-*.jpg: runs configs/video-to-action.yaml on clips, and keeps a frame of each.

The clips are asl_gestures/eat.mkv, asl_gestures/book.mkv and one-by-one-person-detection.mp4 of
https://github.com/intel-iot-devkit/sample-videos, CC BY 4.0.

Run from the checkout: python docs/action_stills.py EAT BOOK PEOPLE
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import cv2
import yaml

from stream.pipeline import load_pipeline
from stream.runtime.supervisor import run_plan
from stream.vision.video_file import VideoFile

HERE = Path(__file__).parent
PIPELINE = HERE.parent / "configs" / "video-to-action.yaml"
QUALITY = 88
BEFORE_S, AFTER_S = 15.0, 1.0


class Still(NamedTuple):
    """A picture, and the time in its clip that it shows."""

    name: str
    at_s: float


STILLS = (Still("action-eat", 0.8), Still("action-book", 2.0), Still("action-people", 64.0))


def main(clips: list[Path]) -> None:
    """Run the pipeline on each clip, live, and write its still."""
    for clip, still in zip(clips, STILLS, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            drawn = Path(folder) / "drawn.mkv"
            begin_s = max(0.0, still.at_s - BEFORE_S)
            pipeline = yaml.safe_load(PIPELINE.read_text())
            nodes = pipeline["nodes"]
            nodes["camera"] |= {"file": str(clip.resolve()), "start": f"{begin_s} s"}
            model = PIPELINE.parent / nodes["likely"]["file"]
            nodes["likely"]["file"] = str(model.resolve())
            nodes["saved"]["file"] = str(drawn)
            path = Path(folder) / "still.yaml"
            path.write_text(yaml.safe_dump(pipeline, sort_keys=False))
            duration_s = still.at_s - begin_s + AFTER_S
            report = run_plan(load_pipeline(path), duration_s=duration_s, run_dir=Path(folder))
            assert report.exit == 0, report.message
            shown = (frame for ns, frame in VideoFile(drawn).frames(still.at_s - begin_s))
            out = HERE / f"{still.name}.jpg"
            cv2.imwrite(str(out), next(shown), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
