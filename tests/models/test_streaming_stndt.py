import pytest
import torch

from models.stndt.streaming import StreamingConfig, StreamingSTNDT


def _network(**settings: object) -> StreamingSTNDT:
    torch.manual_seed(0)
    sizes = {
        "n_in": 5, "n_out": 7, "window": 6, "layers": 3, "heads": 2, "head_width": 4, "hidden": 16,
        "behaviour": 2,
    }  # fmt: skip
    config = StreamingConfig(**{**sizes, **settings})  # type: ignore[arg-type]
    network = StreamingSTNDT(config).eval()
    # Fresh heads are zero; random weights everywhere make the comparison mean something.
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    network.scales.behaviour_mean.normal_()
    return network


@pytest.mark.parametrize(
    "settings",
    [
        {"spatial": "none"},
        {"spatial": "frozen"},
        {"spatial": "recursive"},
        {"spatial": "exact"},
        {"spatial": "exact", "course": 6},
        {"spatial": "exact", "course": 4},
        {"spatial": "exact", "course": 1},
    ],
)
@pytest.mark.parametrize("look_ahead", [0, 3])
@torch.no_grad()
def test_a_step_equals_the_full_causal_run_at_every_bin_cold_wrapped_and_across_segments(
    settings: dict[str, object], look_ahead: int
) -> None:
    network = _network(look_ahead=look_ahead, **settings)
    lengths = [4, 1, 150, 23]
    segment = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths))
    counts = torch.poisson(torch.full((sum(lengths), 5), 1.5))
    full, decoded = network(counts[None], segment[None])
    state = network.start()
    for t in range(len(segment)):
        if t and segment[t] != segment[t - 1]:
            state = network.start()
        log_counts, behaviour, state = network.step(counts[t], state)
        torch.testing.assert_close(log_counts, full[0, t], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(behaviour, decoded[0, t], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spatial", ["none", "frozen", "recursive", "exact"])
@torch.no_grad()
def test_no_output_depends_on_a_later_bin_or_on_another_segment(spatial: str) -> None:
    network = _network(spatial=spatial)
    counts = torch.poisson(torch.full((1, 90, 5), 1.5))
    segment = (torch.arange(90) >= 40).long()[None]
    before, _ = network(counts, segment)
    changed = counts.clone()
    changed[:, 20:40] += 3
    after, _ = network(changed, segment)
    torch.testing.assert_close(after[:, :20], before[:, :20])
    torch.testing.assert_close(after[:, 40:], before[:, 40:])
    assert not torch.allclose(after[:, 20:40], before[:, 20:40])


@torch.no_grad()
def test_neurons_are_compared_over_their_courses_however_far_attention_over_time_sees() -> None:
    network = _network(course=4, window=20, layers=1, taus=())
    # Without attention over time and averages only the courses bring the past to a bin.
    network.layers[0].out.weight.zero_()
    counts = torch.poisson(torch.full((1, 30, 5), 1.5))
    segment = torch.zeros(1, 30, dtype=torch.long)
    changed = counts.clone()
    changed[:, 10] += 3
    differs = (network(changed, segment)[0] != network(counts, segment)[0]).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == [10, 11, 12, 13]


@torch.no_grad()
def test_look_ahead_feeds_the_heads_the_bin_that_they_describe() -> None:
    network = _network(look_ahead=4)
    skip = network.head.weight[:, 7:]
    network.head.weight[:, :7] = 0
    counts = torch.poisson(torch.full((1, 30, 5), 1.5))
    log_counts, _ = network(counts, torch.zeros(1, 30, dtype=torch.long))
    v = torch.log1p(counts)
    features = torch.cat([v, network._averages(v, torch.zeros(1, 30, dtype=torch.long))], -1)
    expected = features @ skip[:7].T + network.head.bias[:7]
    torch.testing.assert_close(log_counts[:, 4:], expected[:, :-4])


@torch.no_grad()
def test_hidden_entries_do_not_reach_the_output() -> None:
    network = _network()
    counts = torch.poisson(torch.full((1, 30, 5), 1.5))
    keep = torch.ones(1, 30, 5)
    keep[:, 10:20, 2] = 0
    changed = counts.clone()
    changed[:, 10:20, 2] += 5
    segment = torch.zeros(1, 30, dtype=torch.long)
    torch.testing.assert_close(
        network(changed, segment, keep)[0], network(counts, segment, keep)[0]
    )
