from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.captured import captured_output
from stream.errors import ModelError
from stream.inference import StreamingSession


def steps(session, rows, output="rates"):
    name = session.contract.inputs[0].name
    return np.array([session.step({name: np.float32(row)})[output] for row in rows])


@pytest.mark.parametrize("in_place", [False, True])
def test_state_is_carried_from_step_to_step(tmp_path, integrator, in_place):
    session = StreamingSession(integrator(tmp_path / "m.onnx", in_place=in_place), "cpu")
    rows = [[1, 0, 2], [0, 0, 0], [4, 0, 0]]
    assert steps(session, rows).tolist() == [[1, 0, 2], [0.5, 0, 1], [4.25, 0, 0.5]]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=1, max_size=40),
    in_place=st.booleans(),
)
def test_a_ring_buffer_sums_its_window_also_after_it_wrapped(tmp_path, ring, rows, in_place):
    session = StreamingSession(ring(tmp_path / "m.onnx", in_place=in_place), "cpu")
    data = np.array(rows, np.float32)
    expected = [data[max(0, i - 3) : i + 1].sum(axis=0) for i in range(len(data))]
    assert np.array_equal(steps(session, data), expected)


@pytest.mark.parametrize("in_place", [False, True])
def test_rehearsals_leave_no_trace(tmp_path, ring, in_place):
    path = ring(tmp_path / "m.onnx", in_place=in_place)
    rows = np.random.default_rng(0).poisson(1.0, (50, 3)).astype(np.float32)
    session, rehearsed = StreamingSession(path, "cpu"), StreamingSession(path, "cpu")
    for number, row in enumerate(rows):
        for _ in range(number % 4):
            rehearsed.rehearse()
        assert np.array_equal(steps(rehearsed, [row]), steps(session, [row]))


def test_it_computes_what_a_plain_session_with_state_passed_by_hand_computes(tmp_path, integrator):
    path = integrator(tmp_path / "m.onnx", leak=0.9)
    rows = np.random.default_rng(0).poisson(1.0, (50, 3)).astype(np.float32)
    plain = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    trace, expected = np.zeros(3, np.float32), []
    for row in rows:
        rates, _, trace = plain.run(None, {"counts": row, "trace": trace})
        expected.append(rates)
    assert np.array_equal(steps(StreamingSession(path), rows), expected)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("steps_before", [1, 2])
def test_reset_brings_the_start_values_back(tmp_path, integrator, in_place, steps_before):
    path = integrator(tmp_path / "m.onnx", in_place=in_place, start=8.0)
    session = StreamingSession(path, "cpu")
    first = steps(session, [[1, 2, 3]] * steps_before)
    session.reset()
    assert np.array_equal(steps(session, [[1, 2, 3]] * steps_before), first)
    assert first[0].tolist() == [5, 6, 7]


def test_what_a_step_returned_is_not_overwritten_by_later_steps(tmp_path, integrator):
    session = StreamingSession(integrator(tmp_path / "m.onnx"), "cpu")
    first = session.step({"counts": np.ones(3, np.float32)})["rates"]
    session.step({"counts": np.full(3, 9, np.float32)})
    assert first.tolist() == [1, 1, 1]


@pytest.mark.parametrize("wrong", [np.ones(2, np.float32), np.ones(3), np.ones((1, 3), np.float32)])
def test_an_input_of_another_shape_or_dtype_is_refused(tmp_path, integrator, wrong):
    session = StreamingSession(integrator(tmp_path / "m.onnx"), "cpu")
    with pytest.raises(ModelError, match=r"'counts' of integrator takes float32 \[3\]"):
        session.step({"counts": wrong})


def test_it_says_where_it_runs_and_what_it_loaded(tmp_path, integrator):
    session = StreamingSession(integrator(tmp_path / "m.onnx"), "cpu")
    assert session.providers == ("CPUExecutionProvider",)
    assert session.fallback == ""
    assert len(session.sha256) == 64
    assert session.contract.name == "integrator"


def test_a_gpu_that_is_not_there_is_an_error_and_auto_says_why_it_fell_back(tmp_path, integrator):
    path = integrator(tmp_path / "m.onnx")
    auto = StreamingSession(path, "auto")
    if "CUDAExecutionProvider" in auto.providers:
        pytest.skip("this machine has a working GPU")
    assert auto.fallback
    with pytest.raises(ModelError, match="runs the model on CPUExecutionProvider") as caught:
        StreamingSession(path, "cuda")
    assert auto.fallback in str(caught.value)


def test_nothing_of_onnx_runtime_reaches_the_terminal(tmp_path, integrator, capfd):
    StreamingSession(integrator(tmp_path / "m.onnx"), "auto")
    assert capfd.readouterr() == ("", "")


def test_an_unknown_device_is_refused(tmp_path, integrator):
    with pytest.raises(ModelError, match="no device 'tpu'"):
        StreamingSession(integrator(tmp_path / "m.onnx"), "tpu")


def test_a_file_that_is_no_model_file_is_refused(tmp_path, integrator):
    path = integrator(tmp_path / "m.onnx")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"m\.onnx"):
        StreamingSession(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"nothing\.onnx"):
        StreamingSession(tmp_path / "nothing.onnx")


def test_captured_output_holds_what_native_code_and_python_wrote(capfd):
    with captured_output() as text:
        os.write(2, b"native ")
        print("python", end=" ")
    assert "native" in text.getvalue()
    assert "python" in text.getvalue()
    os.write(2, b"after")
    assert capfd.readouterr() == ("", "after")


def test_a_process_without_stderr_can_load_a_model(tmp_path, integrator):
    path = integrator(tmp_path / "m.onnx")
    code = f"""
import os
os.close(2)
from stream.inference import StreamingSession
StreamingSession({str(path)!r}, "auto")
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
