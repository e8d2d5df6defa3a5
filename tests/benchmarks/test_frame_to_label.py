"""The film that `innervate bench frame-to-label` plays."""

from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2", reason="needs the extra 'vision'")

from benchmarks.frame_to_label import write_film  # noqa: E402
from stream.vision.video_file import VideoFile  # noqa: E402


def test_a_film_plays_a_clip_there_and_back_as_a_webcam_would(tmp_path: Path) -> None:
    clip, film = tmp_path / "clip.avi", tmp_path / "film.avi"
    out = cv2.VideoWriter(
        str(clip), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 120)
    )
    for grey in (0, 100, 200):
        out.write(np.full((120, 160, 3), grey, np.uint8))
    out.release()
    write_film(clip, film, 0.3)
    video = VideoFile(film)
    assert (video.info.width, video.info.height, video.info.rate_hz) == (640, 480, 30)
    greys = [float(frame.mean()) for _, frame in video.frames()]
    assert greys == pytest.approx([0, 100, 200, 100, 0, 100, 200, 100, 0], abs=3)
