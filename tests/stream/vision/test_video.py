import time
from pathlib import Path

import numpy as np
import pytest
from vision_doubles import number_of

from stream.errors import ConfigError, RecordingError
from stream.node import Context
from stream.vision.frames import COLOURS
from stream.vision.video import Video, VideoSettings
from stream.vision.video_file import VideoFile

MS = 1_000_000


def play(file: Path, start_ns: int = 0, **settings):
    """Everything that the node sends when all of it is due."""
    node = Video(VideoSettings(file=file, **settings))
    node.outputs({})
    node.open(Context("clip", {}, file.parent))
    node.start(start_ns)
    packets = []
    while not node.finished:
        packets += list(node.tick())
    return node, packets


def test_a_video_says_what_it_streams_before_it_runs(write_video):
    spec = Video(VideoSettings(file=write_video(rate=10))).outputs({})[""]
    assert (spec.kind, spec.shape, spec.dtype) == ("frame", (120, 160, 3), "uint8")
    assert spec.names == COLOURS == ("blue", "green", "red")
    assert spec.period_s == pytest.approx(0.1)
    assert spec.meta["recording"] == "clip"
    assert len(spec.meta["sha256"]) == 64


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4", "clip.mkv"])
def test_every_frame_comes_once_in_order_with_its_own_time(write_video, name):
    _, packets = play(write_video(name, frames=20, rate=10), start_ns=1000)
    assert [number_of(p.data) for p in packets] == list(range(20))
    assert [round(p.source_ns / MS) for p in packets] == list(range(0, 2000, 100))
    assert [p.t_ns - 1000 for p in packets] == [p.source_ns for p in packets]
    assert all(p.source_ns == p.source_end_ns and p.segment == 0 for p in packets)
    assert packets[0].meta == {"colours": "bgr"}


def test_blue_comes_first(tmp_path):
    import cv2

    path = tmp_path / "red.avi"
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    out.write(np.full((64, 64, 3), (10, 20, 230), np.uint8))
    out.release()
    _, (packet,) = play(path)
    assert packet.data[32, 32] == pytest.approx([10, 20, 230], abs=8)


def test_frames_taken_at_irregular_times_keep_them(write_irregular_video):
    times_ms = [0, 40, 50, 200, 700, 710, 900]
    path = write_irregular_video(times_ms)
    assert Video(VideoSettings(file=path)).outputs({})[""].period_s is None
    _, packets = play(path, speed=2.0)
    assert [round(p.source_ns / MS) for p in packets] == times_ms
    assert [round(p.t_ns / MS) for p in packets] == [t / 2 for t in times_ms]
    assert [number_of(p.data) for p in packets] == list(range(7))


def test_a_video_of_a_telephone_is_turned_as_its_file_says(write_video):
    upright = write_video("clip.mp4", frames=3)
    content = bytearray(upright.read_bytes())
    # Beside a frame's size, the header of the track has a matrix of 16.16 numbers.
    matrix = content.index(b"tkhd") + 44
    quarter = np.array([0, 1, 0, -1, 0, 0, 120, 0, 2**14]) * 2**16
    content[matrix : matrix + 36] = quarter.astype(">i4").tobytes()
    turned = upright.with_name("turned.mp4")
    turned.write_bytes(content)
    assert Video(VideoSettings(file=turned)).outputs({})[""].shape == (160, 120, 3)
    _, packets = play(turned)
    assert [number_of(np.rot90(p.data)) for p in packets] == [0, 1, 2]


def test_a_start_begins_exactly_there_on_the_clock_of_the_file(write_video, write_irregular_video):
    for name in ("long.mp4", "long.avi", "long.mkv"):
        path = write_video(name, frames=100, rate=10)
        for start_s in (0.05, 3.0, 7.35):
            _, packets = play(path, start=start_s)
            first = round(np.ceil(start_s * 10))
            assert [number_of(p.data) for p in packets] == list(range(first, 100)), (name, start_s)
            assert round(packets[0].source_ns / MS) == first * 100
            assert packets[0].t_ns == 0
    _, packets = play(write_irregular_video([0, 1500, 3000, 3010, 6000]), start=3.005)
    assert [round(p.source_ns / MS) for p in packets] == [3010, 6000]


def test_in_every_lap_the_clock_goes_on_and_the_segment_is_new(write_video):
    _, packets = play(write_video(frames=5, rate=10), loop=3, start=0.2)
    assert [number_of(p.data) for p in packets] == [2, 3, 4] * 3
    assert [round(p.source_ns / MS) for p in packets] == [
        200, 300, 400, 500, 600, 700, 800, 900, 1000
    ]  # fmt: skip
    assert [p.segment for p in packets] == [0] * 3 + [1] * 3 + [2] * 3


def test_as_fast_as_possible_sends_one_frame_at_a_time(write_video):
    before_ns = time.monotonic_ns()
    node = Video(VideoSettings(file=write_video(), speed="max"))
    node.open(Context("clip", {}, Path()))
    node.start(before_ns)
    sent = []
    while not node.finished:
        packets = list(node.tick())
        assert len(packets) <= 1
        sent += packets
    assert len(sent) == 20
    assert all(before_ns <= p.t_ns <= time.monotonic_ns() for p in sent)


def test_nothing_comes_before_it_is_due(write_video):
    node = Video(VideoSettings(file=write_video()))
    node.open(Context("clip", {}, Path()))
    assert node.due_ns() is None
    start_ns = time.monotonic_ns() + 3_600_000_000_000
    node.start(start_ns)
    assert node.due_ns() == start_ns
    assert list(node.tick()) == []


def test_what_is_no_video_is_refused(tmp_path):
    with pytest.raises(RecordingError, match="is not there"):
        VideoFile(tmp_path / "none.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(RecordingError, match="is empty"):
        VideoFile(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("no video " * 1000)
    with pytest.raises(RecordingError, match=r"text\.mp4 cannot be read as a video"):
        VideoFile(tmp_path / "text.mp4")


def test_a_video_without_a_frame_is_refused(write_irregular_video):
    path = write_irregular_video([0, 40])
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"\x1f\x43\xb6\x75")])
    with pytest.raises(RecordingError, match=r"not one frame|cannot be read as a video"):
        VideoFile(path)


def test_a_video_that_was_cut_off_sends_what_there_is_and_then_says_so(write_video):
    path = write_video("cut.avi", frames=60, rate=10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    node = Video(VideoSettings(file=path))
    node.outputs({})
    node.open(Context("clip", {}, path.parent))
    node.start(0)
    numbers = []

    def play_on():
        while True:
            numbers.extend(number_of(p.data) for p in node.tick())

    with pytest.raises(RecordingError, match=r"announces 60 frames, but only \d+ can be decoded"):
        play_on()
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 15


def test_a_video_cut_off_before_its_index_is_refused(write_video):
    path = write_video("cut.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(RecordingError, match="cut off before its index"):
        VideoFile(path)


def test_little_damage_in_the_middle_is_survived_and_counted(write_video):
    path = write_video("bad.avi", frames=60, rate=10)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = np.random.default_rng(0).bytes(500)
    path.write_bytes(content)
    node, packets = play(path)
    numbers = [number_of(p.data) for p in packets]
    assert numbers[:20] == list(range(20))
    assert numbers[-20:] == list(range(40, 60))
    assert node.context.counters.notes.get("missing_frames", 0) == 60 - len(packets) <= 2


def test_a_start_beyond_the_end_is_refused(write_video):
    with pytest.raises(ConfigError, match=r"start: 5 s is beyond the end of .*, which is 2 s long"):
        Video(VideoSettings(file=write_video(frames=20, rate=10), start=5.0)).outputs({})


def test_real_clips_play_from_end_to_end(shared_data: Path):
    clips = sorted((shared_data / "video").iterdir())
    assert len(clips) >= 4
    for clip in clips:
        if clip.stat().st_size > 2_000_000:
            continue
        node, packets = play(clip, speed="max")
        times_ns = [p.source_ns for p in packets]
        assert (np.diff(times_ns) > 0).all()
        assert node.context.counters.notes.get("missing_frames", 0) <= 2
