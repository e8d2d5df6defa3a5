"""STNDT as published: Le & Shlizerman, NeurIPS 2022 (arXiv 2206.04727), on whole trials.

A trial is seen twice: as T temporal tokens of N counts, and as N spatial tokens of T counts. Each
layer attends over time, then multiplies the vector of every bin by the attention of the spatial
tokens over each other::

    z_t = embed_t(x) sqrt(N) + position;   z_s = embed_s(x^T) sqrt(T) + position
    each layer:  z_t += attention over bins (LN(z_t)), banded;    z_t += FFN(LN(z_t))
                 A_S  = mean over heads of softmax(Q K^T / sqrt(T / heads)) of LN(z_s), N x N
                 z_t += A_S applied over neurons to LN(z_t);       z_t += FFN(LN(z_t))
                 z_s  = z_t^T, for the next layer
    log expected counts = linear(LN(z_t))

It is not causal, twice over: the band of temporal attention may reach ahead, and a spatial token is
the whole course of a trial. `models.stndt.streaming` is the form that runs live; this one says what
is lost by that.

Held-out units and forward bins are fed as zeros and always predicted. Among the rest, a share of
entries is masked in every batch, and only masked entries have a loss (`MaskedObjective`).

It differs from the published code in two ways: the head starts at the mean rates, not at one spike
per bin, which saves the first updates; and a span of masked bins is drawn as a span also when
entries are masked one by one, as the paper tells it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.spikes.network import start_at_mean_rates
from stream.errors import ConfigError

_TURNS = 8


@dataclass(frozen=True)
class PublishedConfig:
    """Sizes and settings of the published network.

    Attributes
    ----------
    units
        N, held-out units included; the width of a temporal token.
    bins
        T, forward bins included; the width of a spatial token.
    inputs
        Columns of the units that are fed in; the others are held out.
    forward_bins
        Bins at the end of a trial that are never seen.
    layers, heads, hidden
        Depth, attention heads, width of the feed-forward parts.
    context_back, context_ahead
        Bins before and after its own that a bin attends to.
    dropout, dropout_embed, dropout_rates
        In the layers, on the tokens, before the head.
    """

    units: int
    bins: int
    inputs: tuple[int, ...]
    forward_bins: int = 0
    layers: int = 4
    heads: int = 2
    hidden: int = 128
    context_back: int = 30
    context_ahead: int = 30
    dropout: float = 0.3
    dropout_embed: float = 0.3
    dropout_rates: float = 0.3

    def __post_init__(self) -> None:
        for name, size in (("units", self.units), ("bins", self.bins)):
            if size % self.heads:
                raise ConfigError(
                    f"STNDT splits its tokens among {self.heads} attention heads, and {size} {name}"
                    " cannot be split so; use one head, or another number of them."
                )


def sinusoids(length: int, width: int) -> Tensor:
    """Return fixed positional codes, (length, width) (Vaswani et al., 2017, section 3.5)."""
    rate = torch.exp(-math.log(10_000.0) * torch.arange(0, width, 2) / width)
    angle = torch.arange(length)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


class FeedForward(nn.Sequential):
    """Norm, one hidden layer, dropout."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )


class Layer(nn.Module):
    """Temporal attention, spatial attention, and a feed-forward part after each."""

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        n, t = config.units, config.bins
        self.heads, self.p = config.heads, config.dropout
        self.norm_time, self.norm_space, self.norm_mix = (nn.LayerNorm(w) for w in (n, t, n))
        self.time_qkv, self.time_out = nn.Linear(n, 3 * n), nn.Linear(n, n)
        self.space_qk = nn.Linear(t, 2 * t)
        self.feed_time = FeedForward(n, config.hidden, config.dropout)
        self.feed_mix = FeedForward(n, config.hidden, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        for linear in (self.time_qkv, self.space_qk):
            nn.init.xavier_uniform_(linear.weight)
        # T-Fixup (Huang et al., ICML 2020) lets deep stacks train without a long warm-up.
        for module in (self.time_out, self.feed_time[1], self.feed_time[4]):
            assert isinstance(module, nn.Linear)
            module.weight.data *= 0.67 * config.layers**-0.25

    def forward(self, z: Tensor, space: Tensor, band: Tensor) -> tuple[Tensor, Tensor]:
        """Run one layer.

        Parameters
        ----------
        z
            (batch, T, N) temporal tokens.
        space
            (batch, N, T) spatial tokens.
        band
            (T, T), true where a bin (row) may attend to another.

        Returns
        -------
        z, attention
            (batch, T, N) and the spatial attention (batch, N, N); its rows sum to one.
        """
        q, k, v = (self._split(part) for part in self.time_qkv(self.norm_time(z)).chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=band, dropout_p=self.p if self.training else 0.0
        )
        z = z + self.dropout(self.time_out(mixed.transpose(1, 2).flatten(2)))
        z = z + self.feed_time(z)
        q, k = (self._split(part) for part in self.space_qk(self.norm_space(space)).chunk(2, -1))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        attention = scores.softmax(-1).mean(1)
        z = z + self.dropout(self.norm_mix(z) @ attention.transpose(-1, -2))
        return z + self.feed_mix(z), attention

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.view(*tokens.shape[:2], self.heads, -1).transpose(1, 2)


class PublishedSTNDT(nn.Module):
    """Log rates of whole trials from their spike counts."""

    delay_bins = 0

    band: Tensor
    time_position: Tensor
    space_position: Tensor

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self.config = config
        n, t = config.units, config.bins
        self.embed_time, self.embed_space = nn.Linear(n, n), nn.Linear(t, t)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(n)
        self.head = nn.Linear(n, n)
        self.dropout_embed = nn.Dropout(config.dropout_embed)
        self.dropout_rates = nn.Dropout(config.dropout_rates)
        nn.init.uniform_(self.head.weight, -0.1, 0.1)
        ahead = torch.arange(t) - torch.arange(t)[:, None]
        band = (ahead <= config.context_ahead) & (ahead >= -config.context_back)
        self.register_buffer("band", band, persistent=False)
        self.register_buffer("time_position", sinusoids(t, n), persistent=False)
        self.register_buffer("space_position", sinusoids(n, t), persistent=False)

    def calibrate(self, counts: Tensor, inputs: Tensor, behaviour: Tensor) -> None:
        """Start at the mean rates of training counts (bins, units); the rest is unused."""
        start_at_mean_rates(self.head, counts)

    def forward(
        self, counts: Tensor, segment: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return log expected counts (batch, bins, units), and behaviour of no columns.

        Parameters
        ----------
        counts
            (batch, bins, inputs), where bins is T or a multiple of it: trials one after another.
        segment
            (batch, bins) number of the trial that each bin belongs to.
        keep
            (batch, bins, inputs) of 0 and 1, where 0 hides an entry.

        Raises
        ------
        ConfigError
            The bins are not whole trials.
        """
        if keep is not None:
            counts = counts * keep
        trials = self._trials(counts, segment)
        log_counts = self.run_trials(trials)[0]
        log_counts = log_counts.reshape(*counts.shape[:2], self.config.units)
        return log_counts, log_counts.new_zeros(*counts.shape[:2], 0)

    def run_trials(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Run (trials, T, inputs) counts.

        Returns
        -------
        log_counts, attention
            (trials, T, units), and the spatial attention of each layer
            (layers, trials, units, units).
        """
        z, space = self.embed(self.fill(counts))
        attention = []
        for layer in self.layers:
            z, weights = layer(z, space, self.band)
            space = z.transpose(1, 2)
            attention.append(weights)
        return self.head(self.dropout_rates(self.norm(z))), torch.stack(attention)

    def fill(self, counts: Tensor) -> Tensor:
        """Return (trials, T, units) with zeros for held-out units and forward bins."""
        c = self.config
        full = counts.new_zeros(*counts.shape[:2], c.units)
        full[..., list(c.inputs)] = counts
        full[:, c.bins - c.forward_bins :] = 0
        return full

    def embed(self, full: Tensor) -> tuple[Tensor, Tensor]:
        """Return temporal tokens (trials, T, units) and spatial tokens (trials, units, T)."""
        time = self.embed_time(full) * math.sqrt(self.config.units) + self.time_position
        space = self.embed_space(full.transpose(1, 2)) * math.sqrt(self.config.bins)
        return self.dropout_embed(time), self.dropout_embed(space + self.space_position)

    def _trials(self, counts: Tensor, segment: Tensor) -> Tensor:
        t = self.config.bins
        whole = counts.shape[1] % t == 0
        if whole:
            ids = segment.reshape(-1, t)
            whole = bool((ids == ids[:, :1]).all())
        if not whole:
            raise ConfigError(
                f"the published STNDT takes whole trials of {t} bins, one after another; this data"
                " has other lengths. The streaming STNDT has no such limit."
            )
        return counts.reshape(-1, t, counts.shape[-1])


@dataclass(frozen=True)
class Masking:
    """How entries of a trial are corrupted.

    Attributes
    ----------
    mode
        `full` draws entries one by one, `timestep` whole bins (as NDT does).
    ratio
        Share of entries that are masked.
    token, random
        Of the masked, the share set to zero; of the remaining, the share replaced by a random
        count. What is left stays as it is.
    max_span
        Longest run of bins that is masked together; 1 for single entries.
    span_from, span_full
        Updates between which the probability of drawing spans rises from 0 to 1.
    """

    mode: Literal["full", "timestep"] = "full"
    ratio: float = 0.25
    token: float = 0.8
    random: float = 0.8
    max_span: int = 1
    span_from: int = 8_000
    span_full: int = 12_000

    def corrupt(self, counts: Tensor, update: int) -> tuple[Tensor, Tensor]:
        """Return corrupted counts (trials, T, inputs), and which entries were masked."""
        rise = (update - self.span_from) / max(self.span_full - self.span_from, 1)
        width = 1
        if self.max_span > 1 and float(torch.rand(())) < rise:
            width = int(torch.randint(1, self.max_span + 1, ()))
        shape = counts.shape if self.mode == "full" else (*counts.shape[:2], 1)
        masked = torch.rand(shape, device=counts.device) < self.ratio / width
        if width > 1:
            spans = functional.pad(masked.transpose(1, 2).float(), (width - 1, 0))
            masked = functional.max_pool1d(spans, width, stride=1).transpose(1, 2) > 0
        masked = masked.expand(counts.shape)
        token = masked & (torch.rand_like(counts) < self.token)
        swapped = masked & ~token & (torch.rand_like(counts) < self.random)
        others = torch.floor(torch.rand_like(counts) * counts.max().clamp(min=1))
        return torch.where(swapped, others, counts * ~token), masked


@dataclass(frozen=True)
class MaskedObjective:
    """The loss of STNDT: Poisson likelihood of what was masked, and optionally a contrast of views.

    Attributes
    ----------
    masking
        Of the entries to be predicted.
    contrast
        Weight of the contrastive term; the paper adds it once the masked loss is stable.
    contrast_from
        Update from which it counts.
    temperature
        Of the contrastive term.
    views
        Masking of its two views.
    """

    masking: Masking = Masking()
    contrast: float = 0.0
    contrast_from: int = 0
    temperature: float = 0.07
    views: Masking = Masking(ratio=0.05, token=0.5, random=0.5)

    def __call__(self, network: nn.Module, counts: Tensor, update: int) -> Tensor:
        """Return the loss of trials.

        Parameters
        ----------
        network
            A `PublishedSTNDT`.
        counts
            (trials, T, units), all units.
        update
            Number of the optimiser step.
        """
        assert isinstance(network, PublishedSTNDT)
        c = network.config
        columns = list(c.inputs)
        seen, masked = self.masking.corrupt(counts[..., columns], update)
        scored = torch.ones_like(counts, dtype=torch.bool)
        scored[..., columns] = masked
        scored[:, c.bins - c.forward_bins :] = True
        log_counts, _ = network.run_trials(seen)
        loss = (log_counts.exp() - counts * log_counts)[scored].mean()
        if self.contrast and update >= self.contrast_from:
            loss = loss + self.contrast * self._contrast(network, counts, update)
        return loss

    @torch.no_grad()
    def validation(self, network: nn.Module, counts: Tensor) -> float:
        """Return the loss per entry, each entry hidden once: an eighth of them at a time.

        Parameters
        ----------
        network
            A `PublishedSTNDT`.
        counts
            (bins, units): trials of T bins, one after another.
        """
        assert isinstance(network, PublishedSTNDT)
        c = network.config
        network.eval()
        trials = counts.reshape(-1, c.bins, c.units)
        columns = list(c.inputs)
        generator = torch.Generator().manual_seed(0)
        turn = torch.randint(_TURNS, (*trials.shape[:2], len(columns)), generator=generator)
        total = 0.0
        for now in range(_TURNS):
            scored = torch.full(trials.shape, fill_value=now == 0)
            scored[..., columns] = turn == now
            scored[:, c.bins - c.forward_bins :] = now == 0
            log_counts, _ = network.run_trials(trials[..., columns] * (turn != now))
            total += float((log_counts.exp() - trials * log_counts)[scored].sum())
        return total / trials.numel()

    def _contrast(self, network: PublishedSTNDT, counts: Tensor, update: int) -> Tensor:
        """NT-Xent (Chen et al., ICML 2020) of the embedded views, temporal and spatial summed."""
        first, second = (network.embed(self.views.corrupt(counts, update)[0]) for _ in range(2))
        return torch.stack(
            [
                nt_xent(a.flatten(1), b.flatten(1), self.temperature)
                for a, b in zip(first, second, strict=True)
            ]
        ).sum()


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return how hard it is to tell a sample's other view from all other samples.

    Parameters
    ----------
    first, second
        (samples, features) of two views of the same samples.
    temperature
        What the cosine similarities are divided by.
    """
    features = functional.normalize(torch.cat([first, second]), dim=1)
    similar = features @ features.T / temperature
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    similar = similar.masked_fill(itself, -torch.inf)
    partner = torch.arange(len(features), device=features.device).roll(len(first))
    return functional.cross_entropy(similar, partner)
