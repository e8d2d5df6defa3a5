"""Importing: what lies in files of many formats is found, or refused with a reason."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from import_helpers import BINNED, COUNTS, VELOCITY, recording, run, save

from stream.errors import ConfigError, RecordingError
from stream.spikes.importing import list_variables


@pytest.mark.parametrize("suffix", [".mat", ".npz", ".h5"])
def test_counts_and_behaviour_are_the_same_from_every_format(suffix, tmp_path):
    path = save(tmp_path / f"s{suffix}", Y=COUNTS, V=VELOCITY)
    found = recording({"counts": BINNED, "behaviour": {"vel": "V"}}, path)
    assert np.array_equal(found.counts, COUNTS)
    assert (found.width_s, found.start_s, found.stop_s) == (0.05, 0.0, 2.0)
    assert np.array_equal(found.behaviour["vel"].values, VELOCITY)
    assert found.behaviour["vel"].columns == ("x", "y")
    assert found.units == ("0", "1", "2")
    assert found.name == "s"


def test_matlab_7_3_is_read_with_its_axes_cells_and_structs(tmp_path):
    path = tmp_path / "v73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["Y"] = COUNTS.T  # MATLAB stores columns first
        file["Y"].attrs["MATLAB_class"] = np.bytes_("uint8")
        group = file.create_group("#refs#")
        references = []
        for i in range(3):
            group[f"t{i}"] = np.array([[0.5 + i, 1.5 + i]]).T
            group[f"t{i}"].attrs["MATLAB_class"] = np.bytes_("double")
            references.append(group[f"t{i}"].ref)
        file.create_dataset("spikes", data=np.array([references]).T, dtype=h5py.ref_dtype)
        file["spikes"].attrs["MATLAB_class"] = np.bytes_("cell")
        struct = file.create_group("trials")
        struct.attrs["MATLAB_class"] = np.bytes_("struct")
        struct.create_dataset("times", data=np.array([references]).T, dtype=h5py.ref_dtype)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    assert np.array_equal(recording({"counts": BINNED}, path).counts, COUNTS)
    found = recording({"times": "spikes{*}"}, path)
    assert [t.tolist() for t in found.spike_times_s] == [[0.5, 1.5], [1.5, 2.5], [2.5, 3.5]]
    assert found.units == ("1", "2", "3")
    assert recording({"times": "trials{*}.times"}, path).units == ("1", "2", "3")


def test_structs_of_cells_texts_and_sparse_counts_are_read_from_matlab_7_3(tmp_path):
    path = tmp_path / "v73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        struct = file.create_group("data")
        struct.attrs["MATLAB_class"] = np.bytes_("struct")
        trials = [matlab_array(file, f"#refs#/t{i}", COUNTS[: 5 + i].T) for i in range(2)]
        words = [np.array([list(map(ord, name))]) for name in ("left", "mid", "rightmost")]
        names = [matlab_array(file, f"#refs#/n{i}", w, "char") for i, w in enumerate(words)]
        for field, members in (("trials", trials), ("names", names)):
            references = np.array([[member.ref for member in members]]).T
            struct.create_dataset(field, data=references, dtype=h5py.ref_dtype)
            struct[field].attrs["MATLAB_class"] = np.bytes_("cell")
        packed = scipy.sparse.csc_matrix(COUNTS.astype(float))
        sparse = file.create_group("Y")
        sparse.attrs["MATLAB_sparse"] = np.uint64(len(COUNTS))
        sparse["data"], sparse["ir"], sparse["jc"] = packed.data, packed.indices, packed.indptr
    listed = list_variables(path)
    assert "data.trials{1}..{2}: list of 2, such as 3 x 5 uint8" in listed
    assert "data.names{1}..{3}: list of 3, such as text" in listed
    assert np.array_equal(recording({"counts": BINNED}, path).counts, COUNTS)
    found = recording(
        {
            "counts": {"variable": "data.trials", "axes": "trial x unit x time", "width": "50 ms"},
            "units": {"names": {"variable": "data.names"}},
        },
        path,
    )
    assert found.units == ("left", "mid", "rightmost")
    assert np.array_equal(found.counts, np.concatenate([COUNTS[:5], COUNTS[:6]]))


def matlab_array(
    file: h5py.File, name: str, array: np.ndarray, kind: str = "uint8"
) -> h5py.Dataset:
    """Write an array as MATLAB 7.3 does: columns first, and with its class."""
    data = file.create_dataset(name, data=array.T)
    data.attrs["MATLAB_class"] = np.bytes_(kind)
    return data


def test_counts_in_a_sparse_matrix_are_read_in_full(tmp_path):
    path = save(tmp_path / "s.mat", Y=scipy.sparse.csc_matrix(COUNTS.astype(float)))
    assert np.array_equal(recording({"counts": BINNED}, path).counts, COUNTS)


def test_texts_in_hdf5_name_units(tmp_path):
    path = save(tmp_path / "s.h5", Y=COUNTS, names=np.array([b"a", b"b", b"c"], dtype=object))
    found = recording({"counts": BINNED, "units": {"names": {"variable": "names"}}}, path)
    assert found.units == ("a", "b", "c")


def test_a_table_of_a_spreadsheet_with_semicolons_has_its_columns(tmp_path):
    (tmp_path / "t.csv").write_text("t;id\n0.1;4\n0.2;2\n")
    found = recording({"times": {"variable": "t", "unit": "id"}}, tmp_path / "t.csv")
    assert found.units == ("2", "4")


def test_a_table_gives_units_by_the_pattern_of_their_columns(tmp_path):
    rows = [f"{k / 100},{k * 0.5},{k % 2},{k % 3}" for k in range(20)]
    (tmp_path / "t.csv").write_text("time,hand x,unit_7,unit_12\n" + "\n".join(rows))
    found = recording(
        {
            "counts": {"variable": "unit_*", "width": "10 ms"},
            "units": {"format": "n{1}"},
            "behaviour": {"hand": {"variable": "hand x", "unit": "cm", "scale": "1/2"}},
        },
        tmp_path / "t.csv",
    )
    assert found.units == ("n7", "n12")
    assert found.counts[:, 1].tolist() == [k % 3 for k in range(20)]
    assert found.behaviour["hand"].values[:3, 0].tolist() == [0, 0.25, 0.5]


def test_a_table_without_names_is_one_variable(tmp_path):
    (tmp_path / "t.txt").write_text("# made by hand\n0 1 2\n3 0 1\n")
    found = recording({"counts": {"variable": "data", "width": "1 s"}}, tmp_path / "t.txt")
    assert found.counts.tolist() == [[0, 1, 2], [3, 0, 1]]


def test_spikes_listed_with_their_unit_are_gathered_by_unit(tmp_path):
    (tmp_path / "spikes.csv").write_text("t,id\n0.3,4\n0.1,2\n0.2,4\n")
    imported = run({"times": {"variable": "t", "unit": "id"}}, tmp_path / "spikes.csv")
    assert imported.recording.units == ("2", "4")
    assert [t.tolist() for t in imported.recording.spike_times_s] == [[0.1], [0.2, 0.3]]
    assert "were sorted" in imported.remarks[0]


def test_times_that_are_taken_for_seconds_and_look_like_samples_are_remarked(tmp_path):
    path = save(tmp_path / "s.npz", t=np.array([300, 450, 900]))
    (remark,) = run({"times": "t"}, path).remarks
    assert "state 'times.scale'" in remark
    assert not run({"times": {"variable": "t", "scale": "1/30000"}}, path).remarks


def test_arrays_of_a_spike_sorter_are_two_files_of_one_recording(tmp_path):
    np.save(tmp_path / "spike_times.npy", np.array([300, 600, 900], dtype=np.uint64))
    np.save(tmp_path / "spike_clusters.npy", np.array([1, 0, 1]))
    mapping = {
        "files": {"times": {"match": "spike_times*"}, "clusters": {"match": "spike_clusters*"}},
        "times": {
            "variable": "times.data", "scale": "1/30000", "unit": "clusters.data",
            "resolution": "33 us",
        },
    }  # fmt: skip
    imported = run(mapping, tmp_path / "spike_clusters.npy", tmp_path / "spike_times.npy")
    assert imported.recording.spike_times_s[1].tolist() == pytest.approx([0.01, 0.03])
    assert imported.resolution_s == pytest.approx(33e-6)


def test_a_text_file_with_a_line_a_unit_and_one_file_a_unit_are_understood(tmp_path):
    (tmp_path / "all.txt").write_text("0.1 0.2 0.9\n\n0.5,0.6\n")
    rows = {"files": {"all": {"match": "all.txt", "format": "rows"}}, "times": "all.rows{*}"}
    found = recording(rows, tmp_path / "all.txt")
    assert [len(t) for t in found.spike_times_s] == [3, 0, 2]
    paths = []
    for name, times in (("cellA", "0.1\n0.2\n"), ("cellB", "0.15\n0.9\n")):
        paths.append(tmp_path / f"{name}.txt")
        paths[-1].write_text(times)
    each = {"files": {"cells": {"match": "cell*.txt", "many": True}}, "times": "cells.*.data"}
    found = recording(each, *paths)
    assert found.units == ("cellA", "cellB")
    assert found.spike_times_s[1].tolist() == [0.15, 0.9]


def test_binary_records_are_read_after_their_header_and_refused_when_cut(tmp_path):
    records = np.zeros(5, dtype=[("time", "<u4"), ("x", "<u2")])
    records["time"], records["x"] = [0, 10, 10, 20, 30], range(5)
    path = tmp_path / "track.bin"
    path.write_bytes(b"rate 10\n<end>\n" + records.tobytes())
    np.save(tmp_path / "spikes.npy", np.array([0.5, 1.0]))
    track = {
        "match": "*.bin", "binary": {"header_ends": "<end>\n", "dtype": {"time": "<u4", "x": "<u2"}}
    }  # fmt: skip
    signal = {
        "variable": "track.x", "time": {"variable": "track.time", "scale": 0.1},
        "repeated_times": "keep first",
    }  # fmt: skip
    mapping = {
        "files": {"spikes": {"match": "*.npy"}, "track": track},
        "times": "spikes.data",
        "behaviour": {"pos": signal},
    }
    paths = (tmp_path / "spikes.npy", path)
    imported = run(mapping, *paths)
    pos = imported.recording.behaviour["pos"]
    assert pos.times_s.tolist() == [0, 1, 2, 3]
    assert pos.values[:, 0].tolist() == [0, 1, 3, 4]
    assert imported.remarks == ("behaviour.pos: 1 samples with a repeated time were left out.",)
    del signal["repeated_times"]
    with pytest.raises(ConfigError, match="'repeated_times: keep first'"):
        run(mapping, *paths)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RecordingError, match="ends inside a record"):
        run(mapping, *paths)
    path.write_bytes(records.tobytes())
    with pytest.raises(RecordingError, match="no header that ends with"):
        run(mapping, *paths)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    mapping = {"counts": BINNED}
    (tmp_path / "empty.mat").write_bytes(b"")
    (tmp_path / "bad.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    (tmp_path / "bad.h5").write_bytes(b"no hdf5")
    (tmp_path / "what.xyz").write_bytes(b"1 2 3")
    # A file that would run code when read, to see that it is refused.
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    for name, error, match in (
        ("none.mat", RecordingError, "is not there"),
        ("empty.mat", RecordingError, "is empty"),
        ("bad.mat", RecordingError, "cannot be read"),
        ("bad.h5", RecordingError, "cannot be read"),
        ("pickled.npy", RecordingError, "cannot be read"),
        ("what.xyz", ConfigError, "no format that is known"),
    ):
        with pytest.raises(error, match=match) as caught:
            recording(mapping, tmp_path / name)
        assert name in str(caught.value)
