"""What an exported step remembers is found from the step alone."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from exporters.onnx_graph import Graph
from stream.model_file import Contract, Port
from stream.stability.card import Stability, stability_lines
from stream.stability.drives import cut_sequences, driven
from stream.stability.measuring import Effort, measure
from stream.stability.parts import ModelStep, find_parts
from stream.stability.spectrum import Spectrum

N = 3
BRIEF = Effort(sequences=2, steps=60, warm_up=20)


def fed(steps: int = 200) -> np.ndarray:
    return np.random.default_rng(0).poisson(0.7, (steps, N)).astype(np.float32)


def contract_of(graph: Graph) -> tuple[bytes, Contract]:
    step = graph.step()
    contract = Contract(
        name="m", version="1", task="t", states=step.states,
        inputs=(
            Port(
                name="counts", kind="counts", shape=(N,), axes=("unit",), unit="count",
                channels=(), period_s=0.02,
            ),
        ),
        outputs=(
            Port(name="rates", kind="rates", shape=(N,), axes=("unit",), unit="Hz", channels=()),
        ),
    )  # fmt: skip
    return step.model.SerializeToString(), contract


def measured(graph: Graph) -> Stability:
    found = measure(*contract_of(graph), fed(), BRIEF)
    assert found is not None
    return found


def with_average(graph: Graph, x: str, keep: float) -> str:
    """Add `average` = keep * average + x."""
    old = graph.state("average", (N,))
    return graph.carry("average", graph.op("Add", graph.op("Mul", old, graph.constant(keep)), x))


def with_queue(graph: Graph, x: str, rows: int, name: str = "queue") -> str:
    """Add a queue of the last `rows` inputs, and return the oldest of them, before this one."""
    queue = graph.op("Concat", graph.state(name, (rows, N)), graph.reshape(x, 1, N), axis=0)
    begin, end, ends = graph.constant([1]), graph.constant([rows + 1]), graph.constant([0])
    graph.carry(name, graph.op("Slice", queue, begin, end, ends))
    return graph.reshape(graph.op("Slice", queue, ends, begin, ends), N)


def given_out(graph: Graph, x: str) -> Graph:
    graph.output(graph.op("Exp", x), "rates", (N,))
    return graph


def recurrent(gain: float, *, units: int = 30) -> Graph:
    """Return h = tanh(W h + V counts) with W of this gain, from h of which rates are given out."""
    random = np.random.default_rng(1)
    graph = Graph("recurrent")
    x = graph.reshape(graph.input("counts", (N,)), 1, N)
    old = graph.state("hidden", (1, units))
    weight = gain * random.standard_normal((units, units)) / math.sqrt(units)
    kept = graph.linear(old, weight)
    given = graph.linear(x, 0.1 * random.standard_normal((N, units)))
    new = graph.carry("hidden", graph.op("Tanh", graph.op("Add", kept, given)))
    return given_out(graph, graph.reshape(graph.linear(new, 0.1 * np.ones((units, N))), N))


def test_an_average_fades_at_its_rate_whatever_is_fed() -> None:
    graph = Graph("average")
    found = measured(given_out(graph, with_average(graph, graph.input("counts", (N,)), 0.9)))
    assert found.stable
    assert found.largest_exponent == pytest.approx(math.log(0.9), abs=1e-4)
    assert found.window_steps is None
    lines = stability_lines(found)
    assert lines["driven by"] == "the same whatever is fed: it is fixed by construction"
    assert lines["memory"].startswith("fades by e in 9.5 steps (190 ms)")


@pytest.mark.parametrize("rows", [1, 5, 90])
def test_a_window_is_told_by_its_length_and_has_no_exponent(rows: int) -> None:
    graph = Graph("window")
    found = measured(given_out(graph, with_queue(graph, graph.input("counts", (N,)), rows)))
    assert found.stable
    assert found.largest_exponent is None
    assert found.window_steps == rows
    assert "exponent" not in " ".join(stability_lines(found))
    assert stability_lines(found)["memory"].startswith(f"forgets after {rows} step")


def test_windows_one_behind_the_other_forget_after_the_sum_of_their_lengths() -> None:
    graph = Graph("windows")
    x = with_queue(graph, graph.input("counts", (N,)), 4, "first")
    found = measured(given_out(graph, with_queue(graph, x, 3, "second")))
    assert found.window_steps == 7


def test_a_window_does_not_hide_what_fades_behind_it() -> None:
    graph = Graph("both")
    x = with_queue(graph, graph.input("counts", (N,)), 6)
    found = measured(given_out(graph, with_average(graph, x, 0.5)))
    assert found.largest_exponent == pytest.approx(math.log(0.5), abs=1e-3)
    assert found.window_steps == 6
    memory = stability_lines(found)["memory"]
    assert memory.startswith("'queue' forgets after 6 steps (120 ms), by construction; 'average'")


def test_a_network_of_high_gain_is_unstable_and_one_of_low_gain_settles() -> None:
    wild, quiet = measured(recurrent(4.0)), measured(recurrent(0.5))
    assert not wild.stable
    assert wild.largest_exponent > 0.05
    assert wild.settles_steps is None
    assert stability_lines(wild)["memory"] == "does not fade"
    assert quiet.stable
    assert quiet.largest_exponent < -0.3
    assert 0 < quiet.settles_steps < 40
    assert quiet.by_drive.keys() == {"real", "noise", "zeros", "twice"}


@pytest.mark.parametrize(("growth", "exponent"), [(1.5, math.log(1.5)), (6.0, 100.0)])
def test_what_explodes_is_unstable_even_beyond_the_range_of_numbers(
    growth: float, exponent: float
) -> None:
    graph = Graph("exploding")
    x = with_average(graph, graph.input("counts", (N,)), growth)
    found = measured(given_out(graph, graph.op("Tanh", x)))
    assert not found.stable
    assert found.window_steps is None
    assert found.largest_exponent == pytest.approx(exponent, abs=1e-3)


def test_a_model_that_only_counts_is_driven_by_a_clock_and_remembers_nothing() -> None:
    graph = Graph("clock")
    x = graph.input("counts", (N,))
    old = graph.state("begun", (1,))
    begun = graph.carry("begun", graph.op("Max", old, graph.constant(np.ones(1))))
    found = measured(given_out(graph, graph.op("Mul", x, begun)))
    assert found.clocks == ("begun",)
    assert found.parts == ()
    assert stability_lines(found)["memory"] == "none"


def test_integers_that_remember_input_are_named_as_not_covered() -> None:
    graph = Graph("integers")
    x = graph.input("counts", (N,))
    old = graph.state("total", (N,), "int64")
    total = graph.carry("total", graph.op("Add", old, graph.op("Cast", x, to=7)))
    found = measured(
        given_out(graph, graph.op("Mul", graph.op("Cast", total, to=1), graph.constant(0.01)))
    )
    assert found.not_covered == ("total",)
    assert "total" in stability_lines(found)["not covered"]


def test_parts_are_tensors_that_depend_on_each_other_both_ways() -> None:
    graph = Graph("parts")
    x = graph.input("counts", (N,))
    a, b, c = (graph.state(name, (N,)) for name in "abc")
    half = graph.constant(0.5)
    graph.carry("a", graph.op("Add", graph.op("Mul", b, half), x))
    graph.carry("b", graph.op("Mul", a, half))
    graph.carry("c", graph.op("Add", graph.op("Mul", c, half), a))
    model, contract = contract_of(given_out(graph, x))
    found = find_parts(ModelStep(model, contract), fed()[:30], fed()[60:90])
    assert [set(p.names) for p in found.parts] == [{"a", "b"}, {"c"}]
    assert found.parts[1].fed_by == {0}
    assert found.together([0, 1]) == [[0], [1]]


def test_inputs_are_silenced_doubled_and_made_noisier() -> None:
    real = fed(50)[None]
    np.testing.assert_array_equal(driven(real, "real", "counts"), real)
    assert not driven(real, "zeros", "counts").any()
    np.testing.assert_array_equal(driven(real, "twice", "counts"), 2 * real)
    noisy = driven(real, "noise", "counts")
    assert (noisy >= real).all()
    assert noisy.mean() == pytest.approx(2 * real.mean(), rel=0.3)
    bright = driven(np.full((1, 4, 2), 200, np.uint8), "twice", "strip")
    assert bright.dtype == np.uint8
    assert (bright == 255).all()


def test_sequences_are_spread_over_a_recording_and_a_short_one_is_repeated() -> None:
    whole = np.arange(100)
    found = cut_sequences(whole, 3, 20)
    assert found[0][0] == 0
    assert found[-1][-1] == 99
    short = cut_sequences(whole[:7], 2, 20)
    assert short.shape == (2, 20)
    assert set(short.ravel()) == set(range(7))


def test_figures_of_a_spectrum_follow_from_its_exponents() -> None:
    spectrum = Spectrum.ordered(np.array([[-0.5, 0.1, -0.2], [-0.7, 0.2, -0.1]]), period_s=0.01)
    np.testing.assert_allclose(spectrum.mean, [0.15, -0.15, -0.6])
    np.testing.assert_allclose(spectrum.spread, [0.05, 0.05, 0.1])
    np.testing.assert_allclose(spectrum.per_second, [15, -15, -60])
    assert spectrum.memory_steps == math.inf
    assert spectrum.dimension == pytest.approx(2.0)
    assert Spectrum(np.array([[-0.25, -np.inf]])).memory_steps == 4
    assert Spectrum(np.array([[0.5, 0.2]])).dimension != Spectrum(np.array([[0.5]])).dimension


def test_a_model_file_is_measured_without_torch() -> None:
    code = (
        "import sys, exporters.commands.stability, stream.stability.measuring;"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
