from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from innervate_command import Said
from onnx import TensorProto, helper, numpy_helper

from stream import model_file
from stream.errors import ModelError
from stream.model_file import (
    METADATA_KEY,
    Contract,
    Port,
    Score,
    State,
    read_contract,
    read_model,
    to_json,
)

UNITS = ("a", "b")
COUNTS = Port(
    name="counts", kind="counts", shape=(2,), axes=("unit",), unit="count", channels=UNITS,
    period_s=0.02,
)  # fmt: skip
RATES = Port(name="rates", kind="rates", shape=(2,), axes=("unit",), unit="Hz", channels=UNITS)
CONTRACT = Contract(
    name="leaky", version="1", task="rates", inputs=(COUNTS,), outputs=(RATES,),
    states=(State(input="trace", output="trace_next", shape=(2,), in_place=True),),
    scores=(Score(metric="co-bps", value=0.25, data="made up", split="test"),),
    trained_on={"name": "made up", "sha256": "0" * 64, "licence": "CC0"},
)  # fmt: skip


def graph_model(*, weight: onnx.TensorProto | None = None) -> onnx.ModelProto:
    """rates = trace_next = counts + leak * trace."""
    value = helper.make_tensor_value_info
    leak = weight or numpy_helper.from_array(np.array([0.5, 0.5], np.float32), "leak")
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["trace", "leak"], ["kept"]),
            helper.make_node("Add", ["kept", "counts"], ["trace_next"]),
            helper.make_node("Identity", ["trace_next"], ["rates"]),
        ],
        "leaky",
        [value(name, TensorProto.FLOAT, [2]) for name in ("counts", "trace")],
        [value(name, TensorProto.FLOAT, [2]) for name in ("rates", "trace_next")],
        [leak],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def save(path: Path, contract: Contract | str | None = CONTRACT, **graph: onnx.TensorProto) -> Path:
    model = graph_model(**graph)
    if contract is not None:
        text = contract if isinstance(contract, str) else to_json(contract)
        helper.set_model_props(model, {METADATA_KEY: text})
    path.write_bytes(model.SerializeToString())
    return path


def change(**fields: object) -> Contract:
    return msgspec.structs.replace(CONTRACT, **fields)


def test_a_contract_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx")
    assert read_contract(path) == CONTRACT
    assert read_model(str(path)) == (path.read_bytes(), CONTRACT)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent\.onnx does not exist"):
        read_contract(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="is not a file"):
        read_contract(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx")
    path.chmod(0)
    with pytest.raises(ModelError, match="cannot be read"):
        read_contract(path)


def test_an_onnx_file_without_contract_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="without a contract"):
        read_contract(save(tmp_path / "m.onnx", None))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"contract_version": 1}', "null", "[" * 5000]
)
def test_a_contract_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelError, match=r"cannot be understood|without a contract"):
        read_contract(save(tmp_path / "m.onnx", text))


def test_a_contract_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="of version 99, this release reads version 1"):
        read_contract(save(tmp_path / "m.onnx", change(contract_version=99)))


def test_a_file_that_is_too_large_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "m.onnx")
    monkeypatch.setattr(model_file, "MODEL_LIMIT_BYTES", 100)
    with pytest.raises(ModelError, match="at most 100"):
        read_contract(path)


def test_a_truncated_file_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    whole = save(tmp_path / "m.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError):
            read_contract(path)


@pytest.mark.parametrize(
    "location", ["weights.bin", "../weights.bin", "/etc/passwd", "..\\weights.bin", ""]
)
def test_weights_in_another_file_are_refused_wherever_it_lies(
    tmp_path: Path, location: str
) -> None:
    (tmp_path / "weights.bin").write_bytes(np.array([0.5, 0.5], np.float32).tobytes())
    weight = TensorProto(name="leak", data_type=TensorProto.FLOAT, dims=[2])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    with pytest.raises(ModelError, match="keeps weights in other files"):
        read_contract(save(tmp_path / "m.onnx", weight=weight))


def test_weights_in_another_file_are_found_inside_nested_graphs(tmp_path: Path) -> None:
    model = graph_model()
    inner = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    inner.external_data.add(key="location", value="/etc/passwd")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["w"], value=inner)], "branch", [],
        [helper.make_tensor_value_info("w", TensorProto.FLOAT, [2])],
    )  # fmt: skip
    model.graph.node.append(
        helper.make_node("If", ["c"], ["w2"], then_branch=branch, else_branch=branch)
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="keeps weights in other files"):
        read_contract(path)


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (change(inputs=()), "names no input"),
        (change(delay_steps=-1), "-1 delay steps"),
        (change(threshold=0.5), "a threshold of 0.5; it must be above 0.5"),
        (change(states=()), "the graph has an input 'trace' that the contract does not name"),
        (
            change(inputs=(msgspec.structs.replace(COUNTS, name="spikes"),)),
            "names the input 'spikes', which the graph does not have; the graph has counts, trace",
        ),
        (
            change(inputs=(msgspec.structs.replace(COUNTS, dtype="float64"),)),
            "'counts' is float64 \\[2\\] in the contract and float32 \\[2\\] in the graph",
        ),
        (change(inputs=(msgspec.structs.replace(COUNTS, dtype="text"),)), "of type 'text'"),
        (
            change(outputs=(msgspec.structs.replace(RATES, shape=(3,), channels=()),)),
            "'rates' is float32 \\[3\\] in the contract and float32 \\[2\\] in the graph",
        ),
        (
            change(outputs=(msgspec.structs.replace(RATES, channels=("a",)),)),
            "shape \\[2\\] and 1 channel names",
        ),
        (change(outputs=(msgspec.structs.replace(RATES, axes=()),)), "one name for each axis"),
        (change(outputs=(RATES, RATES)), "names an output twice"),
    ],
)
def test_a_contract_that_does_not_fit_its_graph_is_refused(
    tmp_path: Path, contract: Contract, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        read_contract(save(tmp_path / "m.onnx", contract))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255), noise=st.binary(max_size=40))
def test_damaged_files_are_refused_or_read_but_never_raise_anything_else(
    tmp_path: Path, at: int, byte: int, noise: bytes
) -> None:
    damaged = bytearray(save(tmp_path / "m.onnx").read_bytes())
    damaged[at % len(damaged)] = byte
    for content in (bytes(damaged), noise):
        (tmp_path / "damaged.onnx").write_bytes(content)
        with contextlib.suppress(ModelError):
            read_contract(tmp_path / "damaged.onnx")


def test_inspect_prints_the_card_and_writes_it_as_json(
    innervate_here: Callable[..., Said], tmp_path: Path
) -> None:
    path = save(tmp_path / "m.onnx")
    done = innervate_here("inspect", str(path), "--json", str(tmp_path / "card.json"))
    assert done.code == 0, done.err
    for text in ("leaky", "2 unit", "20 ms", "1 updated in place", "CC0", "co-bps", "0.2500"):
        assert text in done.out
    card = json.loads((tmp_path / "card.json").read_text())
    assert msgspec.convert(card["contract"], Contract) == CONTRACT
    assert card["bytes"] == path.stat().st_size


def test_inspect_explains_in_one_line_why_a_file_is_no_model(
    innervate_here: Callable[..., Said], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("not a model")
    done = innervate_here("inspect", str(path))
    assert done.code == 1
    assert "m.onnx is no whole ONNX file" in done.err
    assert "Traceback" not in done.err


def test_inspect_needs_neither_torch_nor_onnx(tmp_path: Path) -> None:
    path = save(tmp_path / "m.onnx")
    code = (
        "import sys; sys.modules.update(torch=None, onnx=None)\n"
        "from pathlib import Path\n"
        "from stream.commands.inspect import inspect\n"
        "inspect(Path(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True, check=False, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "leaky" in done.stdout
