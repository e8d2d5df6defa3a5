from __future__ import annotations

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from stream.errors import ConfigError
from stream.inference import StreamingSession
from stream.model_file import METADATA_KEY, read_contract, to_json
from stream.node import Context, Counters
from stream.nodes.model import Model, ModelSettings
from stream.packet import Packet

BIN_NS = 5_000_000


@pytest.fixture
def open_model(tmp_path, counts_spec):
    opened = []

    def make(path, spec=None):
        node = Model(ModelSettings(file=path, device="cpu"))
        spec = spec or counts_spec()
        node.outputs({"bins": spec})
        node.open(Context("rates", {"bins": spec}, tmp_path, Counters()))
        opened.append(node)
        return node

    yield make
    for node in opened:
        node.close()


def packet(k, values=(1, 0, 2), *, segment=0, gap=0, dtype=np.float32, seq=0, t_ns=None):
    return Packet(
        kind="counts", data=np.array(values, dtype), t_ns=1000 + k if t_ns is None else t_ns,
        source_ns=k * BIN_NS, source_end_ns=(k + 1) * BIN_NS, segment=segment, gap=gap, seq=seq,
    )  # fmt: skip


def feed(node, packets):
    """Return what the main output gave for each packet, None where it gave nothing."""
    return [next((p for p in node.process("bins", q) if not p.output), None) for q in packets]


# --- what it says it gives


def test_its_streams_are_the_outputs_of_the_contract(tmp_path, integrator, counts_spec):
    node = Model(ModelSettings(file=integrator(tmp_path / "m.onnx")))
    outputs = node.outputs({"bins": counts_spec()})
    assert list(outputs) == ["", "behaviour"]
    assert outputs[""].kind == "rates"
    assert outputs[""].names == ("a", "b", "c")
    assert outputs[""].unit == "Hz"
    assert outputs[""].period_s == 0.005
    assert outputs["behaviour"].names == ("total", "inverse")
    assert len(outputs[""].meta["model"]["sha256"]) == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "rates"}, r"takes counts, 'bins' carries rates"),
        ({"period_s": 0.02}, r"every 5 ms, 'bins' has 20 ms; set the bin width to 5 ms"),
        ({"period_s": None}, r"'bins' has no fixed interval"),
        ({"dtype": "int64"}, r"takes float32, 'bins' carries int64"),
        ({"unit": "Hz"}, r"values in count, 'bins' carries values in Hz"),
        ({"names": ()}, r"'bins' does not name its own"),
        ({"units": ("a", "b")}, r"takes 3 channels, 'bins' carries 2; missing: c\."),
        ({"units": ("a", "b", "x")}, r"under other names: x instead of c"),
        ({"units": ("a", "c", "b")}, r"another order; .* `units: \[a, b, c\]`"),
        ({"units": ("a", "b", "c", "d")}, r"not known to the model: d; .* `units: \[a, b, c\]`"),
        ({"units": ("a", "b", "x", "y")}, r"missing: c; not known to the model: x, y\."),
    ],
)
def test_a_stream_that_does_not_fit_is_refused_with_both_sides(
    tmp_path, integrator, counts_spec, changes, message
):
    node = Model(ModelSettings(file=integrator(tmp_path / "m.onnx")))
    with pytest.raises(ConfigError, match=message) as caught:
        node.outputs({"bins": counts_spec(**changes)})
    assert "m.onnx (integrator 1)" in str(caught.value)
    assert "'bins'" in str(caught.value)


def test_a_missing_model_file_is_a_configuration_error(tmp_path, counts_spec):
    node = Model(ModelSettings(file=tmp_path / "none.onnx"))
    with pytest.raises(ConfigError, match=r"none\.onnx"):
        node.outputs({"bins": counts_spec()})


def test_a_gpu_that_does_not_work_is_found_before_the_start(tmp_path, integrator, counts_spec):
    path = integrator(tmp_path / "m.onnx")
    if "CUDAExecutionProvider" in StreamingSession(path).providers:
        pytest.skip("this machine has a working GPU")
    with pytest.raises(ConfigError, match="device 'cuda' was asked for"):
        Model(ModelSettings(file=path, device="cuda")).outputs({"bins": counts_spec()})


# --- what it gives


def test_outputs_follow_the_model_and_carry_the_times_of_their_bin(
    tmp_path, integrator, open_model
):
    node = open_model(integrator(tmp_path / "m.onnx"))
    first, second = feed(node, [packet(0), packet(1)])
    assert first.data.tolist() == [1, 0, 2]
    assert second.data.tolist() == [1.5, 0, 3]
    assert (second.kind, second.t_ns, second.gap) == ("rates", 1001, 0)
    assert (second.source_ns, second.source_end_ns) == (BIN_NS, 2 * BIN_NS)


def test_further_outputs_are_streams_of_their_own(tmp_path, integrator, open_model):
    node = open_model(integrator(tmp_path / "m.onnx"))
    rates, behaviour = node.process("bins", packet(0))
    assert (rates.output, behaviour.output) == ("", "behaviour")
    assert behaviour.kind == "behaviour"
    assert behaviour.data.tolist() == [3, 2]


def test_warming_up_leaves_no_trace_in_the_state(tmp_path, integrator, open_model):
    node = open_model(integrator(tmp_path / "m.onnx", start=8.0))
    assert feed(node, [packet(0)])[0].data.tolist() == [5, 4, 6]


def test_state_starts_afresh_with_a_new_segment_and_survives_a_gap(
    tmp_path, integrator, open_model
):
    node = open_model(integrator(tmp_path / "m.onnx"))
    given = [packet(0), packet(3, gap=2), packet(0, segment=1)]
    first, after_gap, new = feed(node, given)
    assert after_gap.data.tolist() == [1.5, 0, 3]
    assert after_gap.gap == 2
    assert new.data.tolist() == first.data.tolist()
    assert (new.segment, new.gap) == (1, 0)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (packet(1, [1, np.nan, 0]), "not_finite"),
        (packet(1, [1, np.inf, 0]), "not_finite"),
        (packet(1, [1, -1, 0]), "negative"),
        (packet(1, [1, 2]), "wrong_shape"),
        (packet(1, [1, 2, 3], dtype=np.float64), "wrong_dtype"),
    ],
)
def test_bad_input_is_refused_counted_and_becomes_a_gap(
    tmp_path, integrator, open_model, bad, reason
):
    node = open_model(integrator(tmp_path / "m.onnx"))
    _, refused, after = feed(node, [packet(0), bad, packet(2)])
    assert refused is None
    assert node.context.counters.dropped == {reason: 1}
    assert after.gap == 1
    assert after.data.tolist() == [1.5, 0, 3], "the state is that of the good packets"


def test_output_that_is_not_finite_is_held_back_and_resets_the_state(
    tmp_path, integrator, open_model
):
    node = open_model(integrator(tmp_path / "m.onnx"))
    _, spoilt, after = feed(node, [packet(0), packet(1, [0.5, 0, 0]), packet(2)])
    assert spoilt is None
    assert node.context.counters.dropped == {"output_not_finite": 1}
    assert after.gap == 1
    assert after.data.tolist() == [1, 0, 2]


def test_a_look_ahead_gives_each_bin_its_own_times_and_the_newest_host_time(
    tmp_path, integrator, open_model
):
    node = open_model(integrator(tmp_path / "m.onnx", delay_steps=2))
    given = [packet(0), packet(1, gap=3), packet(4), packet(5), packet(0, segment=1)]
    outputs = feed(node, given)
    assert [p and p.source_ns // BIN_NS for p in outputs] == [None, None, 0, 1, None]
    assert [p and p.t_ns for p in outputs] == [None, None, 1004, 1005, None]
    assert [p and p.gap for p in outputs] == [None, None, 0, 3, None]
    assert node.context.counters.dropped == {"look_ahead": 2}
    more = feed(node, [packet(1, segment=1), packet(2, segment=1)])
    assert more[1].gap == 2, "the last two bins of segment 0 have no output"
    list(node.finish())
    assert node.context.counters.dropped == {"look_ahead": 4}


GOOD, BAD, SPOILING, NEW_SEGMENT = range(4)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    delay=st.integers(0, 3),
    events=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40),
)
def test_every_bin_is_given_out_or_accounted_for(tmp_path, integrator, open_model, delay, events):
    node = open_model(integrator(tmp_path / f"m{delay}.onnx", delay_steps=delay))
    segment, sent, upstream, given_out, gaps = 0, 0, 0, 0, 0
    for k, (event, gap) in enumerate(events):
        segment += event == NEW_SEGMENT
        values = {BAD: [np.nan, 0, 0], SPOILING: [0.5, 0, 0]}.get(event, [1, 0, 2])
        sent, upstream = sent + 1, upstream + gap
        for out in node.process("bins", packet(k, values, segment=segment, gap=gap)):
            if not out.output:
                given_out, gaps = given_out + 1, gaps + out.gap
    list(node.finish())
    dropped = sum(node.context.counters.dropped.values())
    assert sent == given_out + dropped
    assert gaps <= upstream + dropped
    after = feed(node, [packet(k, segment=segment + 1) for k in range(delay + 1)])[-1]
    assert sent + upstream == given_out + gaps + after.gap, "every bin is an output or in a gap"


def test_its_outputs_are_those_of_a_session_that_steps_through_the_same_bins(
    tmp_path, ring, open_model, counts_spec
):
    path = ring(tmp_path / "m.onnx")
    rows = np.random.default_rng(1).poisson(1.0, (30, 3)).astype(np.float32)
    session = StreamingSession(path, "cpu")
    expected = [session.step({"counts": row})["rates"] for row in rows]
    node = open_model(path, counts_spec(("u0", "u1", "u2")))
    live = [out.data for out in feed(node, [packet(k, row) for k, row in enumerate(rows)])]
    assert np.array_equal(live, expected)


def test_the_report_learns_which_model_ran_where(tmp_path, integrator, open_model):
    node = open_model(integrator(tmp_path / "m.onnx"))
    note = node.context.counters.notes["model"]
    assert note["providers"] == ["CPUExecutionProvider"]
    assert note["file"].endswith("m.onnx")
    assert (note["name"], note["version"], len(note["sha256"])) == ("integrator", "1", 64)


def test_packets_may_be_read_only_views_of_a_message(tmp_path, integrator, open_model):
    node = open_model(integrator(tmp_path / "m.onnx"))
    given = packet(0)
    given.data = np.frombuffer(given.data.tobytes(), np.float32)
    assert feed(node, [given])[0].data.tolist() == [1, 0, 2]


def test_a_jump_of_the_numbers_is_a_gap_over_which_state_is_kept(tmp_path, integrator, open_model):
    node = open_model(integrator(tmp_path / "m.onnx"))
    out = feed(node, [packet(0, seq=4), packet(1, seq=5), packet(4, seq=8, gap=1)])
    assert [p.gap for p in out] == [0, 0, 3]
    assert out[-1].data.tolist() == [1.75, 0, 3.5]
    assert node.context.counters.notes["missing_steps"] == 3


# --- rehearsals


def test_the_step_is_rehearsed_twice_before_the_next_packet_is_due(
    tmp_path, integrator, open_model
):
    node = open_model(integrator(tmp_path / "m.onnx", leak=1.0), None)
    assert node.due_ns() is None
    t_ns = 10**9
    feed(node, [packet(0, t_ns=t_ns)])
    rehearsed = []
    while (due_ns := node.due_ns()) is not None:
        rehearsed.append(due_ns)
        assert not list(node.tick())
    # A machine that is held up may take a step for one that leaves no time.
    assert len(rehearsed) in (0, 2)
    assert all(t_ns < due_ns < t_ns + BIN_NS for due_ns in rehearsed)
    assert feed(node, [packet(1)])[0].data.tolist() == [2, 0, 4]


def test_nothing_is_rehearsed_for_bins_without_time_for_it(
    tmp_path, integrator, open_model, counts_spec
):
    path = integrator(tmp_path / "m.onnx", period_s=0.001)
    node = open_model(path, counts_spec(period_s=0.001))
    feed(node, [packet(0, t_ns=10**9)])
    assert node.due_ns() is None


def test_a_calibrated_threshold_travels_with_the_probabilities_and_with_nothing_else(
    tmp_path, integrator, counts_spec
):
    path = integrator(tmp_path / "m.onnx")
    contract = read_contract(path)
    rates, behaviour = contract.outputs
    model = onnx.load(path)
    for threshold in (None, 0.8):
        contract = msgspec.structs.replace(
            contract, threshold=threshold,
            outputs=(msgspec.structs.replace(rates, kind="probabilities"), behaviour),
        )  # fmt: skip
        helper.set_model_props(model, {METADATA_KEY: to_json(contract)})
        onnx.save(model, path)
        outputs = Model(ModelSettings(file=path)).outputs({"bins": counts_spec()})
        assert outputs[""].meta.get("threshold") == threshold
        assert "threshold" not in outputs["behaviour"].meta


def test_joints_in_another_order_than_the_model_was_made_for_are_refused(
    tmp_path, integrator, counts_spec
):
    path = integrator(tmp_path / "m.onnx")
    contract = msgspec.structs.replace(
        read_contract(path), preprocessing={"layout": "kinect-20"}
    )  # fmt: skip
    model = onnx.load(path)
    helper.set_model_props(model, {METADATA_KEY: to_json(contract)})
    onnx.save(model, path)
    node = Model(ModelSettings(file=path))
    node.outputs({"bins": counts_spec(meta={"layout": "kinect-20"})})
    with pytest.raises(ConfigError, match="'bins' carries utd-mhad-20"):
        node.outputs({"bins": counts_spec(meta={"layout": "utd-mhad-20"})})
    with pytest.raises(ConfigError, match="'bins' carries no layout"):
        node.outputs({"bins": counts_spec()})
