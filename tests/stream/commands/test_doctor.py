from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from innervate_command import innervate
from onnx import helper

from stream.captured import captured_output
from stream.commands import doctor as module
from stream.commands.doctor import examine


def test_it_says_what_is_there_and_what_is_not(tmp_path):
    file = tmp_path / "doctor.json"
    done = innervate("doctor", "--json", str(file))
    table = json.loads(file.read_text())
    rows = {row["what"]: row for row in table["rows"]}
    assert table["name"] == "doctor"
    assert {"Python", "pyzmq", "extra 'train'", "ONNX Runtime", "real-time priority"} <= set(rows)
    assert {"sound", "MIDI"} <= set(rows)
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"]) - {"dev"}
    assert {f"extra '{extra}'" for extra in extras} <= set(rows)
    assert rows["CPUExecutionProvider"]["state"] == "ok"
    assert re.match(r"late by p50 \d+ us, p99 \d+ us", rows["timer, paced sources"]["found"])
    problems = [row for row in table["rows"] if row["state"] == "problem"]
    assert done.returncode == bool(problems)
    assert done.stderr == "", "what native libraries log is caught"
    assert "CPUExecutionProvider" in done.stdout


def test_every_package_that_the_project_needs_is_found_by_its_name():
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    needs = tomllib.loads(text)["project"]["dependencies"]
    names = {re.match(r"[\w.-]+", need)[0].lower() for need in needs} - set(module._RUNTIMES)
    assert len(names) > 5
    assert {name: module._package(name, "0").state for name in names} == dict.fromkeys(names, "ok")


def test_a_provider_counts_as_there_only_when_a_model_runs_on_it():
    rows = {finding.what: finding for finding in examine()}
    there = ort.get_available_providers()
    for provider in {"CPUExecutionProvider", "CUDAExecutionProvider"} & set(there):
        with captured_output():
            session = ort.InferenceSession(module._ADD_MODEL, providers=[provider])
        works = session.get_providers()[0] == provider
        assert rows[provider].state == ("ok" if works else "note")
        assert works or rows[provider].found.startswith("does not run here: ")


def test_the_model_that_providers_run_is_plain_addition():
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    made = onnx.load_from_string(module._ADD_MODEL)
    onnx.checker.check_model(made)
    assert made.graph == graph
    session = ort.InferenceSession(module._ADD_MODEL, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.float32([2])})[0] == 4


def test_it_names_a_package_that_is_missing_or_too_old():
    assert module._package("no-such-package", "1.0").state == "problem"
    assert "not installed" in module._package("no-such-package", "1.0").found
    assert "too old" in module._package("numpy", "999").found
    assert module._package("numpy", "1.26").state == "ok"
