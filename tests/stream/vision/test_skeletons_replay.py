import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from stream.errors import ConfigError, RecordingError
from stream.node import Context
from stream.vision.layouts import KINECT_20, MEDIAPIPE_33, UTD_MHAD_20, reorder
from stream.vision.skeleton_files import SkeletonClip, load_clip, load_clips, save_clip
from stream.vision.skeletons_replay import SkeletonsReplay, SkeletonsReplaySettings

MS = 1_000_000
JOINTS = np.random.default_rng(0).normal(size=(4, 20, 3)).round(3).astype(np.float32)


def ucla(folder: Path, name="a02_s01_e03_v01", joints=JOINTS, label=2) -> Path:
    path = folder / f"{name}.json"
    content = {"file_name": name, "skeletons": joints.tolist(), "label": label}
    path.write_text(json.dumps(content))
    return path


def utd(folder: Path, name="a10_s1_t2_skeleton", joints=JOINTS) -> Path:
    path = folder / f"{name}.mat"
    moved = reorder(joints, KINECT_20, UTD_MHAD_20)
    savemat(path, {"d_skel": moved.transpose(1, 2, 0).astype(np.float64)})
    return path


def npz(folder: Path, times_s=(5.0, 5.1, 5.2, 5.3), joints=JOINTS, name="mine") -> Path:
    path = folder / f"{name}.npz"
    save_clip(SkeletonClip(name, joints, KINECT_20, np.array(times_s), label=7), path)
    return path


def play(file: Path, start_ns=0, **more):
    node = SkeletonsReplay(SkeletonsReplaySettings.model_validate({"file": file, **more}))
    spec = node.outputs({})[""]
    node.open(Context("people", {}, Path()))
    node.start(start_ns)
    packets = []
    while not node.finished:
        packets += list(node.tick())
    return spec, packets


def ms(packets):
    return [round(p.source_ns / MS) for p in packets]


def test_the_same_movement_reads_the_same_from_every_format(tmp_path):
    clips = [load_clip(make(tmp_path)) for make in (ucla, utd, npz)]
    for clip in clips:
        assert clip.layout is KINECT_20
        assert clip.joints.dtype == np.float32
        assert clip.joints == pytest.approx(JOINTS)
    assert [clip.label for clip in clips] == [2, 10, 7]
    assert [clip.name for clip in clips] == ["a02_s01_e03_v01", "a10_s1_t2_skeleton", "mine"]
    assert clips[0].times_s is clips[1].times_s is None


def test_a_clip_without_times_needs_a_rate(tmp_path):
    path = ucla(tmp_path)
    with pytest.raises(ConfigError, match=r"a02_s01_e03_v01 does not say when .* 'rate: 30 Hz'"):
        SkeletonsReplay(SkeletonsReplaySettings(file=path)).outputs({})
    spec, packets = play(path, rate="20 Hz", start_ns=1000)
    assert (spec.kind, spec.shape, spec.dtype, spec.unit) == ("skeleton", (20, 3), "float32", "m")
    assert spec.names == ("x", "y", "z")
    assert spec.period_s == 0.05
    assert spec.meta["layout"] == "kinect-20"
    assert ms(packets) == [0, 50, 100, 150]
    assert [p.t_ns - 1000 for p in packets] == [p.source_ns for p in packets]
    assert np.array([p.data for p in packets]) == pytest.approx(JOINTS)
    assert packets[0].meta == {"clip": "a02_s01_e03_v01", "label": 2}


def test_recorded_times_are_kept_at_any_speed(tmp_path):
    spec, packets = play(npz(tmp_path, (5.0, 5.1, 5.3, 5.35)), speed=0.5)
    assert spec.period_s is None
    assert ms(packets) == [5000, 5100, 5300, 5350]
    assert [round(p.t_ns / MS) for p in packets] == [0, 200, 600, 700]
    assert play(npz(tmp_path))[0].period_s == pytest.approx(0.1)


def test_a_given_rate_overrides_recorded_times(tmp_path):
    _, packets = play(npz(tmp_path, (5.0, 5.1, 5.3, 5.35)), rate="10 Hz")
    assert ms(packets) == [0, 100, 200, 300]


def test_clips_of_a_folder_follow_each_other_as_segments(tmp_path):
    for name in ("a01_s01_e00_v03", "a01_s01_e00_v01", "a02_s01_e00_v03"):
        ucla(tmp_path, name, JOINTS[:2])
    (tmp_path / "README.md").write_text("not a clip")
    spec, packets = play(tmp_path, rate="10 Hz", pattern="*_v03*", loop=2)
    assert spec.meta["clips"] == 2
    assert [p.meta["clip"] for p in packets] == (
        ["a01_s01_e00_v03"] * 2 + ["a02_s01_e00_v03"] * 2
    ) * 2
    assert [p.segment for p in packets] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert ms(packets) == list(range(0, 800, 100))


def test_frames_with_nobody_in_view_may_be_nan_as_a_whole(tmp_path):
    joints = JOINTS.copy()
    joints[1] = np.nan
    assert np.isnan(load_clip(npz(tmp_path, joints=joints)).joints[1]).all()
    joints[2, 3, 0] = np.nan
    with pytest.raises(RecordingError, match="frame 2 has a joint that is no number"):
        load_clip(npz(tmp_path, joints=joints))


def test_files_that_are_no_clips_are_refused(tmp_path):
    def refuse(path, match):
        with pytest.raises(RecordingError, match=match):
            load_clip(path)

    refuse(tmp_path / "none.json", "is not there")
    (tmp_path / "x.csv").write_text("1,2")
    refuse(tmp_path / "x.csv", r"ends in none of \.json, \.mat, \.npz")
    (tmp_path / "x.json").write_text('{"skeletons": [[[1, 2]]]}')
    refuse(tmp_path / "x.json", "is no sequence of NW-UCLA")
    refuse(ucla(tmp_path, "ragged", JOINTS[:, :7]), r"shape \(4, 7, 3\); kinect-20 needs")
    refuse(ucla(tmp_path, "empty", JOINTS[:0]), "at least one frame")
    savemat(tmp_path / "x.mat", {"d_iner": np.zeros((5, 6))})
    refuse(tmp_path / "x.mat", "holds no 'd_skel'")
    savemat(tmp_path / "y.mat", {"d_skel": np.zeros((20, 3))})
    refuse(tmp_path / "y.mat", r"'d_skel' is float64 of shape \(20, 3\)")
    (tmp_path / "z.mat").write_text("text")
    refuse(tmp_path / "z.mat", r"z\.mat cannot be read")
    np.savez(tmp_path / "x.npz", joints=JOINTS)
    refuse(tmp_path / "x.npz", "no array 'times_s' and no 'layout'")
    np.savez(tmp_path / "y.npz", joints=JOINTS, times_s=np.arange(4), layout="coco")
    refuse(tmp_path / "y.npz", "no skeleton layout 'coco'")
    refuse(npz(tmp_path, (0.0, 0.2, 0.1, 0.3)), r"do not ascend: frame 2 is at 0\.1")
    refuse(npz(tmp_path, (0.0, 0.2)), "expected one time for each of the 4 frames")


def test_one_stream_has_one_layout(tmp_path):
    npz(tmp_path)
    save_clip(
        SkeletonClip("other", np.zeros((2, 33, 3), np.float32), MEDIAPIPE_33, np.arange(2.0)),
        tmp_path / "other.npz",
    )
    with pytest.raises(RecordingError, match=r"has the layout mediapipe-33, .* has kinect-20"):
        load_clips(tmp_path)
    assert len(load_clips(tmp_path, "m*")) == 1
    with pytest.raises(RecordingError, match=r"no recorded skeleton .* fits 'z\*'"):
        load_clips(tmp_path, "z*")


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(_ANYTHING)
def test_any_other_json_is_refused_with_one_of_our_errors(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("json") / "x.json"
    path.write_text(json.dumps({"skeletons": content}))
    with pytest.raises(RecordingError):
        load_clip(path)


def test_the_published_data_sets_read_whole(shared_data: Path):
    folder = shared_data / "skeletons"
    north = load_clips(folder / "nw-ucla" / "all_sqe", "a0[12]_s01*.json")
    assert {clip.label for clip in north} == {1, 2}
    south = load_clips(folder / "utd-mhad" / "Skeleton", "a27_*.mat")
    assert {clip.label for clip in south} == {27}
    for clip in north + south:
        head, foot = (clip.joints[:, KINECT_20.index(j), 1] for j in ("head", "left_foot"))
        assert np.median(head - foot) > 0.5, "y is up"
