"""The published STNDT attends, masks and learns as the paper says."""

import math

import numpy as np
import pytest
import torch

from models.stndt.published import (
    MaskedObjective,
    Masking,
    PublishedConfig,
    PublishedSTNDT,
    nt_xent,
    sinusoids,
)
from stream.errors import ConfigError

UNITS, BINS, HELD_OUT, FORWARD = 6, 20, 2, 4


def network(**settings):
    torch.manual_seed(0)
    config = PublishedConfig(
        units=UNITS, bins=BINS, inputs=tuple(range(UNITS - HELD_OUT)), hidden=16, **settings
    )
    net = PublishedSTNDT(config)
    # The layers' branches start small; grown, what they leak would be seen.
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.eval()


def counts(trials=3, seed=1):
    torch.manual_seed(seed)
    return torch.poisson(torch.full((trials, BINS, UNITS - HELD_OUT), 0.7))


def test_a_run_of_trials_gives_what_each_trial_gives_alone():
    net, x = network(), counts()
    segment = torch.arange(3).repeat_interleave(BINS)[None]
    together, behaviour = net(x.reshape(1, 3 * BINS, -1), segment)
    alone, _ = net(x, segment.reshape(3, BINS))
    torch.testing.assert_close(together.reshape(alone.shape), alone)
    assert together.shape == (1, 3 * BINS, UNITS)
    assert behaviour.shape == (1, 3 * BINS, 0)


def test_data_that_is_not_whole_trials_is_refused():
    net, x = network(), counts()
    with pytest.raises(ConfigError, match="whole trials of 20 bins"):
        net(x[:, :-1], torch.zeros(3, BINS - 1, dtype=torch.long))
    with pytest.raises(ConfigError, match="whole trials"):
        net(x[:1], (torch.arange(BINS) > 5).long()[None])


def test_units_that_cannot_be_split_among_the_heads_are_refused():
    with pytest.raises(ConfigError, match="7 units"):
        PublishedConfig(units=7, bins=20, inputs=(0, 1), heads=2)


def test_forward_bins_are_never_seen():
    net, x = network(forward_bins=FORWARD), counts()
    other = x.clone()
    other[:, -FORWARD:] += 3
    torch.testing.assert_close(net.run_trials(other)[0], net.run_trials(x)[0], rtol=0, atol=0)


def test_hidden_entries_are_fed_as_zeros():
    net, x = network(), counts()
    keep = torch.ones_like(x)
    keep[:, 3:9, 1] = 0
    segment = torch.arange(3)[:, None].expand(3, BINS)
    torch.testing.assert_close(net(x, segment, keep)[0], net(x * keep, segment)[0])


def test_a_bin_sees_its_band_through_time_and_the_whole_trial_through_space():
    x = counts(1)
    other = x.clone()
    other[:, 12] += 2

    def reach(net):
        moved = (net.run_trials(other)[0] - net.run_trials(x)[0])[0].abs().amax(1) > 1e-6
        return np.flatnonzero(moved.numpy()).tolist()

    net = network(layers=1, context_back=3, context_ahead=1)
    assert reach(net) == list(range(BINS))
    for layer in net.layers:
        layer.space_qk.weight.data.zero_()
        layer.space_qk.bias.data.zero_()
    assert reach(net) == [11, 12, 13, 14, 15]


def test_spatial_attention_is_a_weighting_of_neurons_per_layer_and_trial():
    attention = network(layers=3).run_trials(counts())[1]
    assert attention.shape == (3, 3, UNITS, UNITS)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 3, UNITS))


def test_masking_hides_zeroes_and_swaps_the_shares_it_is_told():
    torch.manual_seed(0)
    x = torch.full((40, 100, 20), 5.0)
    x[0, 0, 0] = 9
    seen, masked = Masking(ratio=0.25, token=0.6, random=0.5).corrupt(x, 0)
    assert masked.float().mean() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(seen[~masked], x[~masked])
    values = seen[masked]
    # A random count is one of nine, zero and five among them.
    assert (values == 0).float().mean() == pytest.approx(0.6 + 0.4 * 0.5 / 9, abs=0.01)
    assert (values == 5).float().mean() == pytest.approx(0.4 * 0.5 + 0.4 * 0.5 / 9, abs=0.01)


def test_masking_by_timestep_hides_whole_bins():
    _, masked = Masking(mode="timestep").corrupt(counts(20), 0)
    assert torch.equal(masked.all(-1), masked.any(-1))


def test_spans_come_in_late_and_keep_the_share_about_the_same():
    torch.manual_seed(0)
    masking = Masking(max_span=5, span_from=100, span_full=200)
    x = torch.ones(50, 200, 10)

    def runs(update):
        masked = masking.corrupt(x, update)[1]
        begins = masked[:, 1:] & ~masked[:, :-1]
        return float(masked.sum() / begins.sum()), float(masked.float().mean())

    early = [runs(50) for _ in range(20)]
    late = [runs(250) for _ in range(20)]
    assert max(length for length, _ in early) < 1.4
    assert max(length for length, _ in late) > 3
    assert all(0.2 < share < 0.3 for _, share in early + late)


def test_the_loss_knows_masked_held_out_and_forward_entries_only():
    net = network(forward_bins=FORWARD)
    x = torch.poisson(torch.ones(4, BINS, UNITS))
    objective = MaskedObjective(Masking(ratio=0.0))
    log_counts = net.run_trials(x[..., :-HELD_OUT])[0]
    terms = log_counts.exp() - x * log_counts
    seen = terms[:, :-FORWARD, :-HELD_OUT]
    expected = (terms.sum() - seen.sum()) / (terms.numel() - seen.numel())
    torch.testing.assert_close(objective(net, x, 0), expected)


def test_contrast_is_least_when_each_view_is_like_its_partner_only():
    views = torch.eye(4, 8)
    alike = nt_xent(views, views, 0.07)
    shuffled = nt_xent(views, views.roll(1, 0), 0.07)
    assert alike < 1e-4
    assert shuffled > 10
    same = torch.ones(4, 8)
    assert float(nt_xent(same, same, 0.07)) == pytest.approx(math.log(7))


def test_contrast_joins_the_loss_from_its_update_on():
    net, x = network(), torch.poisson(torch.ones(8, BINS, UNITS))
    objective = MaskedObjective(contrast=0.1, contrast_from=10)

    def loss(update):
        torch.manual_seed(3)
        return objective(net, x, update).item()

    assert loss(9) < loss(10)


def test_it_learns_rates_that_all_units_share():
    """Masked training finds a common drive, also for units that it never saw."""
    torch.manual_seed(0)
    drive = torch.sin(torch.linspace(0, 6, BINS) + 6 * torch.rand(200, 1))
    x = torch.poisson(torch.exp(1.5 * drive)[..., None].expand(-1, -1, UNITS))
    net = PublishedSTNDT(
        PublishedConfig(units=UNITS, bins=BINS, inputs=(0, 1, 2, 3), layers=2, dropout=0.1,
                        dropout_embed=0.1, dropout_rates=0.1)
    )  # fmt: skip
    net.calibrate(x.flatten(0, 1), torch.arange(4), torch.zeros(0, 0))
    objective, optimiser = MaskedObjective(), torch.optim.AdamW(net.parameters(), lr=3e-3)
    start = objective(net, x, 0).item()
    for update in range(150):
        optimiser.zero_grad()
        objective(net.train(), x[torch.randint(200, (32,))], update).backward()
        optimiser.step()
    rates = net.eval().run_trials(x[..., :4])[0].exp()[..., 4:]
    correlation = np.corrcoef(rates.detach().ravel(), torch.exp(1.5 * drive).repeat_interleave(2))
    assert objective(net, x, 0).item() < start
    assert correlation[0, 1] > 0.6


def test_positional_codes_are_the_sinusoids_of_the_transformer_also_for_odd_widths():
    codes = sinusoids(10, 5)
    assert codes.shape == (10, 5)
    assert codes[3, 0] == pytest.approx(math.sin(3))
    assert codes[3, 1] == pytest.approx(math.cos(3))
    assert codes[3, 2] == pytest.approx(math.sin(3 * 10_000 ** (-2 / 5)))


def test_validation_hides_every_entry_once_and_scores_everything():
    net = network(forward_bins=FORWARD)
    x = torch.poisson(torch.ones(3, BINS, UNITS))
    for layer in net.parameters():
        layer.data.zero_()
    net.head.bias.data.fill_(0.5)
    constant = (math.exp(0.5) - 0.5 * x).mean().item()
    assert MaskedObjective().validation(net, x.flatten(0, 1)) == pytest.approx(constant, rel=1e-5)
