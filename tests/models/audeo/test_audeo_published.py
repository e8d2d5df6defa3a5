"""Audeo's networks are as published: sizes, shapes, losses, and that they learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from models.audeo.published import (
    ADVERSARIAL,
    KEYS,
    Discriminator,
    Roll2Midi,
    Video2Roll,
    corrector_loss,
    discriminator_loss,
)
from models.audeo.published_fitting import (
    Batch,
    Roll2MidiTraining,
    balanced_rows,
    fit_video2roll,
    stacked,
)
from stream.music.keyboard import PITCHES


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_networks_have_the_published_sizes() -> None:
    assert parameters(Video2Roll()) == 12_713_651
    assert parameters(Roll2Midi()) == 25_103_665


def test_the_keys_are_those_of_the_published_code() -> None:
    assert PITCHES[KEYS] == tuple(range(36, 87))


def pictures(rows: int) -> tuple[Tensor, Tensor]:
    """Dark keyboards with a bright bar for each key that is down in the middle one."""
    keys = (torch.rand(rows, 51) < 0.1).float()
    frames = 0.1 * torch.rand(rows, 5, 100, 900)
    bars = keys.repeat_interleave(17, 1)[:, None, None]
    frames[:, 2:3, 20:80, :867] += 0.8 * bars
    return frames, keys


def test_a_logit_for_each_key_comes_from_all_five_pictures() -> None:
    network = Video2Roll().eval()
    frames = torch.rand(1, 5, 100, 900, requires_grad=True)
    logits = network(frames)
    assert logits.shape == (1, 51)
    logits.sum().backward()
    assert frames.grad is not None
    assert (frames.grad.abs().amax((0, 2, 3)) > 0).all()


def test_the_corrected_roll_has_the_cells_of_the_roll_and_knows_all_layers() -> None:
    network = Roll2Midi().eval()
    corrected = network(torch.rand(1, 1, 51, 4))
    assert corrected.shape == (1, 1, 51, 4)
    assert ((corrected > 0) & (corrected < 1)).all()
    corrected.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_the_discriminator_judges_patches() -> None:
    assert Discriminator()(torch.rand(2, 1, 51, 100)).shape == (2, 1, 7, 13)


def test_weights_begin_as_published() -> None:
    for network in (Roll2Midi(), Discriminator()):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.weight.numel() > 5000:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.05)
                assert abs(module.weight.mean().item()) < 0.001
    first = next(m for m in Video2Roll().modules() if isinstance(m, nn.Conv2d))
    assert first.weight.std().item() == pytest.approx((2 / (11 * 11 * 64)) ** 0.5, rel=0.05)


def test_the_losses_are_least_squares_with_little_weight_on_the_discriminator() -> None:
    made, true = torch.full((1, 1, 2, 2), 0.5), torch.ones(1, 1, 2, 2)
    judged = torch.full((1, 1, 1, 1), 0.2)
    assert corrector_loss(made, true, judged).item() == pytest.approx(
        ADVERSARIAL * 0.8**2 + (1 - ADVERSARIAL) * 0.25
    )
    assert ADVERSARIAL == 0.001
    assert discriminator_loss(judged, judged).item() == pytest.approx(0.5 * (0.8**2 + 0.2**2))


def test_a_few_steps_of_the_optimiser_lower_the_loss_of_rolls() -> None:
    training = Roll2MidiTraining()
    true = (torch.rand(1, 1, 51, 4) < 0.1).float()
    rolls = (0.7 * true + 0.3 * torch.rand(1, 1, 51, 4)).clamp(0, 1)
    losses = [training.step(rolls, true)[0] for _ in range(4)]
    assert losses[-1] < losses[0]


def test_the_discriminator_learns_though_its_first_step_is_too_long() -> None:
    discriminator = Discriminator()
    optimiser = Adam(discriminator.parameters(), lr=5e-4)
    true, made = (torch.rand(1, 1, 51, 100) < 0.1).float(), torch.rand(1, 1, 51, 100)
    losses = []
    for _ in range(12):
        loss = discriminator_loss(discriminator(true), discriminator(made))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_pictures_are_stacked_around_the_one_whose_keys_they_tell() -> None:
    frames = torch.arange(7.0)[:, None, None].expand(7, 2, 3)
    stacks = stacked(frames)
    assert stacks.shape == (3, 5, 2, 3)
    assert stacks[:, 2, 0, 0].tolist() == [2, 3, 4]
    assert stacks[1, :, 0, 0].tolist() == [1, 2, 3, 4, 5]


def test_rare_keys_and_silence_are_drawn_as_often_as_others() -> None:
    keys = np.zeros((1000, 51), bool)
    keys[:990, 10] = True
    keys[990:995, 20] = True
    rows = balanced_rows(keys, 3000, np.random.default_rng(0))
    counts = np.array([keys[rows, 10].sum(), keys[rows, 20].sum(), (~keys[rows].any(1)).sum()])
    assert counts.sum() == 3000
    assert counts == pytest.approx([1000, 1000, 1000], rel=0.1)


def test_fitting_goes_through_the_batches_each_epoch_and_keeps_the_last() -> None:
    batches: list[Batch] = [pictures(2)]
    shown: list[tuple[int, float, float]] = []
    fitted = fit_video2roll(batches, batches, epochs=2, show=lambda *told: shown.append(told))
    assert [epoch for epoch, _, _ in shown] == [1, 2]
    assert fitted.training == tuple(loss for _, loss, _ in shown)
    assert fitted.training[-1] < fitted.training[0]
    frames, keys = batches[0]
    assert not fitted.network.training
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = fitted.network(frames.contiguous(memory_format=torch.channels_last))
    loss = F.binary_cross_entropy_with_logits(logits.float(), keys).item()
    assert loss == pytest.approx(fitted.validation[-1], rel=1e-4)
