"""Importing: variables and a mapping become one recording, or a message that helps."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from import_helpers import BINNED, COUNTS, RNG, VELOCITY, cells, recording, run, save
from innervate_command import innervate

from stream.errors import ConfigError, RecordingError
from stream.spikes.mapping import load_mapping, make_mapping
from stream.spikes.nwb import read_recording
from stream.spikes.recording import bin_recording


@pytest.fixture
def mat(tmp_path):
    path = tmp_path / "session.mat"
    scipy.io.savemat(path, {"Y": COUNTS, "V": VELOCITY, "starts": np.array([1, 11, 31])})
    return path


# Layout


def test_axes_say_which_way_round_counts_are(tmp_path):
    path = save(tmp_path / "s.npz", Y=COUNTS.T)
    found = recording({"counts": BINNED | {"axes": "unit x time"}}, path)
    assert np.array_equal(found.counts, COUNTS)
    imported = run({"counts": BINNED}, path)
    assert "other way round" in imported.remarks[0]


@pytest.mark.parametrize("axes", ["trial x time x unit", "unit x trial x time"])
def test_trials_of_a_cube_become_segments_and_trials(axes, tmp_path):
    cube = RNG.poisson(1.0, (6, 10, 3))
    order = [("trial", "time", "unit").index(word) for word in axes.split(" x ")]
    path = save(
        tmp_path / "s.npz", Y=cube.transpose(order), R=cube * 20.0, L=cube[..., :2],
        condition=np.arange(6) // 2, go=np.arange(6),
    )  # fmt: skip
    found = recording(
        {
            "counts": BINNED | {"axes": axes},
            "true_rates": {"variable": "R", "axes": "trial x time x unit"},
            "behaviour": {"latent": {"variable": "L", "axes": "trial x time x column"}},
            "trials": {
                "columns": {
                    "condition": "condition",
                    "go_time": {"variable": "go", "given_in": "bins from 0"},
                }
            },
        },
        path,
    )
    assert np.array_equal(found.counts, cube.reshape(60, 3))
    assert found.segment_starts_s.tolist() == pytest.approx(np.arange(6) * 0.5)
    assert found.trials.stop_s.tolist() == pytest.approx(np.arange(1, 7) * 0.5)
    assert found.trials.columns["condition"].tolist() == [0, 0, 1, 1, 2, 2]
    assert found.trials.columns["go_time"].tolist() == pytest.approx(np.arange(6) * 0.55)
    assert np.array_equal(found.true_rates.values, cube.reshape(60, 3) * 20.0)
    assert found.true_rates.unit == "Hz"
    assert found.behaviour["latent"].values.shape == (60, 2)


@pytest.mark.parametrize("variable", ["spikes", "spikes{*}"])
def test_listed_trials_of_different_lengths_become_segments_and_trials(variable, tmp_path):
    counts = [RNG.poisson(1.0, (3, n)) for n in (7, 4, 9)]
    velocities = [RNG.normal(size=(2, n)) for n in (7, 4, 9)]
    path = tmp_path / "s.mat"
    scipy.io.savemat(path, {"spikes": cells(*counts), "vel": cells(*velocities), "cond": [5, 6, 7]})
    found = recording(
        {
            "counts": {"variable": variable, "axes": "trial x unit x time", "width": "50 ms"},
            "behaviour": {"vel": {"variable": "vel", "axes": "trial x column x time"}},
            "trials": {"columns": {"cond": "cond"}},
        },
        path,
    )
    assert np.array_equal(found.counts, np.concatenate(counts, axis=1).T)
    assert np.array_equal(found.behaviour["vel"].values, np.concatenate(velocities, axis=1).T)
    assert found.segment_starts_s.tolist() == pytest.approx([0, 0.35, 0.55])
    assert found.trials.columns["cond"].tolist() == [5, 6, 7]
    assert found.units == ("0", "1", "2")  # not the numbers of the trials


def test_a_list_of_arrays_where_one_is_needed_is_refused(tmp_path):
    path = tmp_path / "s.mat"
    scipy.io.savemat(path, {"spikes": cells(COUNTS[:7].T, COUNTS[7:].T), "Y": COUNTS})
    with pytest.raises(ConfigError, match="key 'counts': 'spikes' is a list of 2 arrays"):
        recording({"counts": {"variable": "spikes", "width": "50 ms"}}, path)
    columns = {"columns": {"kind": "spikes"}}
    with pytest.raises(ConfigError, match="kind': 'spikes' is a list of 2 arrays"):
        recording({"counts": BINNED, "trials": columns}, path)


def test_a_wildcard_joins_all_that_it_finds(tmp_path):
    path = save(tmp_path / "s.npz", run_1=COUNTS[:30], run_2=COUNTS[30:], bad_1=COUNTS[:, :2])
    counts = {"join": "run_*", "width": "50 ms"}
    assert np.array_equal(recording({"counts": counts}, path).counts, COUNTS)
    with pytest.raises(ConfigError, match=r"have shapes \(10, 3\), \(40, 2\)"):
        recording({"counts": counts | {"join": ["run_2", "bad_1"]}}, path)


def test_joined_variables_follow_each_other_and_label_their_trials(tmp_path):
    train, valid = RNG.poisson(1.0, (4, 5, 2)), RNG.poisson(1.0, (2, 5, 2))
    path = save(tmp_path / "s.h5", a=train, b=valid, ia=np.arange(4) * 30, ib=np.array([7, 90]))
    found = recording(
        {
            "counts": {"join": ["a", "b"], "axes": "trial x time x unit", "width": "10 ms"},
            "trials": {
                "columns": {
                    "split": {"labels": {"train": "ia", "valid": "ib"}},
                    "condition": {"join": ["ia", "ib"], "floor_divide": 40},
                }
            },
        },
        path,
    )
    assert np.array_equal(found.counts, np.concatenate([train, valid]).reshape(30, 2))
    assert found.trials.columns["split"].tolist() == ["train"] * 4 + ["valid"] * 2
    assert found.trials.columns["condition"].tolist() == [0, 0, 1, 2, 0, 2]


def test_each_struct_of_a_list_is_a_stretch_with_its_own_trials(tmp_path):
    lengths = (7, 9)
    structs = np.zeros((1, 2), dtype=[(n, "O") for n in ("n", "p", "dir", "s", "e", "w", "guide")])
    for i, n in enumerate(lengths):
        structs[0, i] = (
            RNG.poisson(1.0, (n, 2)), np.full((n, 2), i), 90.0 * i, np.uint8(2), np.uint8(n - 1),
            0.02, np.array([[1, 3], [2, 1]]),
        )  # fmt: skip
    scipy.io.savemat(tmp_path / "s.mat", {"trial_data": structs})
    found = recording(
        {
            "parts": "trial_data",
            "counts": {"variable": "n", "width": {"variable": "w"}},
            "units": {"names": {"variable": "guide"}, "format": "ch{1}u{2}"},
            "behaviour": {"pos": {"variable": "p", "columns": ["x", "y"]}},
            "trials": {
                "start": "s", "stop": "e", "given_in": "bins from 1", "columns": {"dir": "dir"}
            },
        },
        tmp_path / "s.mat",
    )  # fmt: skip
    assert found.units == ("ch1u3", "ch2u1")
    assert found.width_s == 0.02
    assert found.segment_starts_s.tolist() == pytest.approx([0, 0.14])
    assert found.trials.start_s.tolist() == pytest.approx([0.02, 0.16])
    assert found.trials.stop_s.tolist() == pytest.approx([0.12, 0.3])
    assert found.trials.columns["dir"].tolist() == [0.0, 90.0]
    assert bin_recording(found, 0.02).behaviour["pos"][:, 0].tolist() == [0] * 7 + [1] * 9


def test_files_are_laid_end_to_end_in_the_order_given(tmp_path):
    one = save(tmp_path / "1.npz", t=np.array([10.5, 11.0]), span=np.array([10.0, 12.0]))
    two = save(tmp_path / "2.npz", t=np.array([3.25]), span=np.array([3.0, 4.0]))
    mapping = {"parts": "files", "times": {"variable": "t", "span": "span"}}
    found = recording(mapping, two, one)
    assert found.spike_times_s[0].tolist() == [0.25, 1.5, 2.0]
    assert found.segment_starts_s.tolist() == [0.0, 1.0]
    assert found.stop_s == 3.0
    del mapping["parts"]
    with pytest.raises(ConfigError, match="2 files were given"):
        recording(mapping, one, two)


def test_one_stretch_keeps_the_clock_of_its_file(tmp_path):
    path = save(
        tmp_path / "s.npz", t=np.array([100.5, 101.0]), p=np.arange(30.0),
        tp=100 + np.arange(30) / 10, begin=np.array([100.2]), end=np.array([102.0]),
    )  # fmt: skip
    found = recording(
        {
            "times": "t",
            "behaviour": {"pos": {"variable": "p", "time": "tp"}},
            "trials": {"start": "begin", "stop": "end"},
        },
        path,
    )
    assert found.spike_times_s[0].tolist() == [100.5, 101.0]
    assert (found.start_s, found.stop_s) == (100.0, pytest.approx(102.9))
    assert found.trials.start_s.tolist() == [100.2]


def test_a_signal_sampled_at_a_rate_of_its_own_has_that_clock(tmp_path):
    path = save(tmp_path / "s.npz", Y=COUNTS, eye=np.arange(200.0))
    signal = {"variable": "eye", "rate": "100 Hz"}
    found = recording({"counts": BINNED, "behaviour": {"eye": signal}}, path)
    assert found.behaviour["eye"].times_s[-1] == pytest.approx(1.99)
    signal["rate"] = "50 Hz"
    with pytest.raises(ConfigError, match="last 2 s longer than the spikes"):
        recording({"counts": BINNED, "behaviour": {"eye": signal}}, path)


def test_beside_spike_times_a_signal_with_a_rate_begins_with_the_clock_of_the_file(tmp_path):
    path = save(
        tmp_path / "s.npz", t=np.array([3.5, 7.0]), pos=np.arange(100.0), span=np.array([2.0, 12.0])
    )
    pos = {"variable": "pos", "rate": "10 Hz"}
    found = recording({"times": "t", "behaviour": {"pos": pos}}, path)
    assert (found.start_s, found.stop_s) == (0.0, pytest.approx(10.0))
    assert found.behaviour["pos"].times_s[:2].tolist() == [0.0, 0.1]
    spanned = {"times": {"variable": "t", "span": "span"}, "behaviour": {"pos": pos}}
    assert recording(spanned, path).behaviour["pos"].times_s[0] == 2.0


def test_what_a_signal_has_after_the_last_whole_bin_is_left_out(tmp_path):
    eye = np.arange(1039.0)  # 40 bins of 25 ms at 1 kHz, and a remainder
    path = save(tmp_path / "s.npz", Y=COUNTS, eye=eye)
    signal = {"variable": "eye", "rate": "1 kHz"}
    counts = {"variable": "Y", "width": "25 ms"}
    with pytest.raises(ConfigError, match="longer than the spikes"):
        recording({"counts": counts, "behaviour": {"eye": signal}}, path)
    path = save(tmp_path / "s.npz", Y=COUNTS, eye=eye[:1020])
    found = recording({"counts": counts, "behaviour": {"eye": signal}}, path)
    assert len(found.behaviour["eye"].values) == 1000


# Segments


@pytest.mark.parametrize(
    ("segments", "starts"),
    [
        ({"starts": "starts", "given_in": "bins from 1"}, [0, 0.5, 1.5]),
        ("one", [0]),
        ("parts", [0]),
    ],
)
def test_segments_start_where_a_variable_says(segments, starts, mat):
    found = recording({"counts": BINNED, "segments": segments}, mat)
    assert found.segment_starts_s.tolist() == pytest.approx(starts)


def test_segments_start_where_a_signal_has_a_value_or_jumps(tmp_path):
    still, place = VELOCITY.copy(), np.cumsum(VELOCITY * 0.01, axis=0)
    still[[0, 8, 30]] = 0
    still[12, 0] = 0  # one column alone is not the rule
    place[25:] += 50
    path = save(tmp_path / "s.npz", Y=COUNTS, V=still, P=place)
    found = recording(
        {"counts": BINNED, "segments": {"where": {"variable": "V", "equals": 0}}}, path
    )
    assert found.segment_starts_s.tolist() == pytest.approx([0, 0.4, 1.5])
    rule = {"where": {"variable": "P", "steps_over": 10}}
    found = recording({"counts": BINNED, "segments": rule}, path)
    assert found.segment_starts_s.tolist() == pytest.approx([0, 1.25])
    with pytest.raises(ConfigError, match="nowhere in P"):
        recording({"counts": BINNED, "segments": {"where": {"variable": "P", "equals": 9}}}, path)


# Units


def test_units_are_named_by_a_list_and_the_silent_ones_may_be_left_out(tmp_path):
    counts = COUNTS.copy()
    counts[:, 1] = 0
    path = save(tmp_path / "s.npz", Y=counts)
    units = {"names": ["a", "b", "c"], "keep_silent": False}
    imported = run({"counts": BINNED, "units": units}, path)
    assert imported.recording.units == ("a", "c")
    numbered = {"counts": BINNED, "units": {"names": [7, 8, 9]}}
    assert recording(numbered, path).units == ("7", "8", "9")
    assert "1 units without a single spike were left out: b." in imported.remarks
    with pytest.raises(ConfigError, match="2 names for 3 units"):
        run({"counts": BINNED, "units": {"names": ["a", "b"]}}, path)
    with pytest.raises(ConfigError, match="does not fit; there are 1 values"):
        run({"counts": BINNED, "units": {"names": ["a", "b", "c"], "format": "{3}"}}, path)


# Refusals


@pytest.mark.parametrize(
    ("mapping", "match"),
    [
        ({}, "needs either 'counts'"),
        ({"counts": BINNED, "times": "t"}, "needs either 'counts'"),
        ({"counts": {"variable": "Y"}}, "key 'counts.width' is missing"),
        ({"counts": BINNED | {"widht": 1}}, "unknown key 'counts.widht'; did you mean 'width'"),
        ({"counts": {"variable": "Y", "width": 0.05}}, "key 'counts.width': .*number with a unit"),
        ({"counts": BINNED, "behavior": {}}, "'behavior'; did you mean 'behaviour'"),
        ({"counts": BINNED | {"scale": "1/0"}}, "fraction such as '1/30000'"),
        ({"counts": {"width": "5 ms"}}, "key 'counts': needs either 'variable' or 'join'"),
        ({"counts": BINNED, "trials": {"columns": {"a": {"variable": "x", "bin": 1}}}}, "a.bin'"),
        ({"counts": BINNED, "segments": {"where": {"variable": "V"}}}, "'equals' or 'steps_over'"),
        ({"counts": BINNED, "session": {"sex": "male"}}, "session.sex"),
        ([1], "has keys such as"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_with_the_key(mapping, match):
    with pytest.raises(ConfigError, match=match):
        make_mapping(mapping, "m.yaml")


def test_a_mapping_file_is_refused_with_the_line(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text("name: x\ncounts:\n  variable: Y\n  width: 50\n")
    with pytest.raises(ConfigError, match=r"m.yaml:4: key 'counts.width'"):
        load_mapping(path)
    path.write_text("name: x\nunits: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError, match=r"m.yaml"):
        load_mapping(path)


def test_an_unknown_variable_is_answered_with_those_there_are(mat):
    with pytest.raises(ConfigError) as caught:
        recording({"counts": {"variable": "spikes", "width": "5 ms"}}, mat)
    message = str(caught.value)
    assert "key 'counts': there is no variable 'spikes'" in message
    assert "Y: 40 x 3 uint8" in message
    assert "V: 40 x 2 float64" in message


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"behaviour": {"v": "starts"}}, "'behaviour.v': starts has 3 samples for 40 bins"),
        ({"behaviour": {"v": {"variable": "V", "columns": ["x"]}}}, "2 columns, and 1 names"),
        ({"behaviour": {"v": {"variable": "V", "pick": [2]}}}, "'behaviour.v.pick': .2. does not"),
        ({"behaviour": {"v": {"variable": "V", "time": "starts"}}}, "3 times for 40 samples"),
        ({"counts": BINNED | {"axes": "time x neuron"}}, "must name each axis once"),
        ({"counts": BINNED | {"axes": "trial x time x unit"}}, "its axes cannot be"),
        ({"parts": "trials"}, "there is no list 'trials'"),
        ({"trials": {"start": "starts"}}, "'start' and 'stop' come together"),
        ({"files": {"a": {"match": "*.h5"}}}, "none of the files given fit"),
        ({"session": {"start": "2020-01-01T00:00:00"}}, "needs a time zone"),
    ],
)
def test_a_mapping_that_does_not_fit_the_file_is_refused_with_the_key(change, match, mat):
    with pytest.raises(ConfigError, match=match):
        recording({"counts": BINNED} | change, mat)


@pytest.mark.parametrize(
    ("counts", "match"),
    [
        (-np.ones((5, 2)), "are negative"),
        (np.full((5, 2), np.nan), "not finite"),
        (np.full((5, 2), 0.5), "not whole"),
        (np.empty((0, 2)), "at least one bin"),
    ],
)
def test_counts_that_cannot_be_are_refused(counts, match, tmp_path):
    with pytest.raises(RecordingError, match=match):
        recording({"counts": BINNED}, save(tmp_path / "s.npz", Y=counts))


def test_spike_times_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(RecordingError, match="not in order"):
        recording({"times": "t"}, save(tmp_path / "s.npz", t=np.array([2.0, 1.0])))
    with pytest.raises(RecordingError, match="not a single spike"):
        recording({"times": "t"}, save(tmp_path / "s.npz", t=np.empty(0)))
    with pytest.raises(ConfigError, match="one row or one column"):
        recording({"times": "t"}, save(tmp_path / "s.npz", t=np.ones((3, 4))))
    path = save(tmp_path / "s.npz", t=np.array([1.0, 9.0]), span=np.array([0.0, 5.0]))
    with pytest.raises(ConfigError, match="1 spikes of unit 0 lie outside 0 to 5 s"):
        recording({"times": {"variable": "t", "span": "span"}}, path)


# The command


def test_the_command_imports_by_options_and_lists_variables(innervate_here, mat, tmp_path):
    listed = innervate_here("import", mat)
    assert listed.code == 0, listed.err
    assert "Y: 40 x 3 uint8" in listed.out
    out = tmp_path / "x.nwb"
    done = innervate_here(
        "import", mat, "--counts", "Y", "--width", "50 ms", "--behaviour", "vel=V", "--licence",
        "CC0", "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "40 bins of 50 ms" in done.out
    found = read_recording(out)
    assert np.array_equal(found.counts, COUNTS)
    assert found.licence == "CC0"


def test_the_command_refuses_a_bad_mapping_with_exit_2_and_writes_nothing(
    innervate_here, mat, tmp_path
):
    (tmp_path / "m.yaml").write_text("counts: {variable: Z, width: 50 ms}\n")
    out = tmp_path / "x.nwb"
    done = innervate_here("import", mat, "--map", tmp_path / "m.yaml", "--out", out)
    assert done.code == 2
    assert "there is no variable 'Z'" in done.err
    assert "Traceback" not in done.err
    assert innervate_here("import", mat, "--counts", "Y", "--width", "50 ms").code == 2
    assert innervate_here("import", mat, "--out", out).code == 2
    assert not out.exists()


def test_the_command_never_writes_over_what_it_reads(innervate_here, mat, tmp_path):
    options = ["--counts", "Y", "--width", "50 ms"]
    before = mat.read_bytes()
    done = innervate_here("import", mat, *options, "--out", mat)
    assert done.code == 2
    assert "must be a file whose name ends in .nwb" in done.err
    assert mat.read_bytes() == before
    nwb = save(tmp_path / "s.h5", Y=COUNTS).rename(tmp_path / "s.nwb")
    done = innervate_here("import", nwb, *options, "--out", nwb)
    assert done.code == 2
    assert "the file to read, which would be lost" in done.err
    assert np.array_equal(h5py.File(nwb)["Y"][()], COUNTS)


def test_names_that_are_not_in_utf8_are_refused_before_the_work(mat, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "odd") + b"\xff.mat"))
    options = ["--counts", "Y", "--width", "50 ms", "--out"]
    done = innervate("import", mat, *options, odd.with_suffix(".nwb"))
    assert (done.returncode, "in UTF-8" in done.stderr) == (2, True)
    done = innervate("import", mat.rename(odd), *options, tmp_path / "x.nwb")
    assert (done.returncode, "is not in UTF-8; rename it" in done.stderr) == (1, True)
    assert [path.name for path in tmp_path.iterdir()] == [odd.name]


def test_help_tells_an_example(innervate_here):
    shown = innervate_here("import", "--help")
    assert "--map session.yaml" in " ".join(shown.out.replace("│", " ").split())
