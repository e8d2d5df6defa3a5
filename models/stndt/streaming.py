"""A causal STNDT that is carried from bin to bin: O(window) work for a new bin, nothing re-run.

The network follows STNDT (Le & Shlizerman, NeurIPS 2022): bins are tokens as wide as the
population, temporal attention mixes over time, spatial attention multiplies the vector of each bin
by a neuron x neuron matrix, and a linear head gives log rates. What differs makes it streamable:

* temporal attention is causal over a band of `window` bins, with a learned bias per head and age
  (started as ALiBi, Press et al., ICLR 2022) in place of absolute positions, so that keys and
  values of past bins never change and can be cached;
* the spatial matrix is constant (`frozen`), carried along (`recursive`), or computed as the paper
  does (`exact`), where the token of a neuron is its course over the last `course` bins, however
  long the window is; queries and keys are narrow, and learned biases in place of position codes
  tell the neurons apart. Only the first layer mixes, which learns no less than mixing in each;
* counts enter with exponential averages of several time constants, and both also reach the heads
  directly: the network starts from what a Poisson GLM on smoothed spikes can do.

Arithmetic of one bin
---------------------
With d = n_out, widths n_in, F = (1 + taus) n_in, H heads of width dh, E = H dh, W = window,
C = course, R the width of spatial queries and keys, and p the number of bins since the segment
began. All tensors are row vectors or 2-D.

Features (state `average`, (taus, n_in), starts at 0)::

    v       = (log1p(counts) - input_mean) / input_std                       (n_in,)
    average = decay * average + (1 - decay) * v          decay_j = exp(-1 / tau_j)
    f       = concat(v, average row 0, row 1, ...)                           (F,)
    z       = f embed.weight^T + embed.bias                                  (d,)

Each layer (states `key`, `value`, (W, E); the first one also `gram`, (d, d), for recursive, and
`course`, (C, d), for exact mixing; start 0)::

    s       = LayerNorm(z)                                                   eps 1e-5
    q, k, v = split(s qkv.weight^T + qkv.bias)                               (E,) each
    slot    = p mod W;  key[slot] = k;  value[slot] = v
    age     = (slot - [0 .. W-1]) mod W                                      (W,)
    a       = softmax(q_h key_h^T / sqrt(dh) + bias[h, age])  over ages <= min(p, W - 1)
    z       = z + concat_h(a_h value_h) out.weight^T
    s       = LayerNorm(z)                     first layer, mixing other than `none`
    frozen:     A = softmax_rows(mix)
    recursive:  gram = g gram + (1 - g) s^T s;  A = softmax_rows(mix + gain gram);  g = sigmoid(.)
    exact:      course[p mod C] = s;  tokens = course[of age C-1 .. 0]^T               (d, C)
                A = softmax_rows(Q K^T)    Q = tokens query + query_bias, K likewise   (d, R)
    z       = z + A s                          as a row: s A^T
    s       = LayerNorm(z)
    z       = z + relu(s up.weight^T + up.bias) down.weight^T + down.bias

Heads (state `delayed`, (K, F), a queue of features, only with look_ahead K > 0)::

    u       = concat(LayerNorm(z), f of K bins ago)                          (d + F,)
    y       = u head.weight^T + head.bias                                    (n_out + D,)
    rates   = exp(y[:n_out]) / width_s                                       Hz
    behaviour = y[n_out:] * behaviour_std + behaviour_mean

`input_mean` and the other scales are buffers of the submodule `scales`. At a new segment every
state is filled with 0 and p = 0. With look-ahead the output of bin t describes bin t - K, and the
first K outputs of a segment describe nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.spikes.network import Scales, start_at_mean_rates

Spatial = Literal["none", "frozen", "recursive", "exact"]

_BLOCK = 64
SPACE_WIDTH = 16
"""Width of the queries and keys by which neurons attend to each other."""


@dataclass(frozen=True)
class StreamingConfig:
    """Sizes and settings of a streaming STNDT.

    Attributes
    ----------
    n_in, n_out
        Units that are fed in, and units whose rates come out (also the width of the network).
    window
        Bins that temporal attention sees, the newest included.
    layers, heads, head_width, hidden
        Depth, attention heads and their width, width of the feed-forward part.
    spatial
        How the first layer mixes the vector of a bin over neurons.
    course
        Bins over which neurons are compared, the newest included, with exact mixing.
    look_ahead
        Bins by which the output lags the input; 0 is strictly causal and without delay.
    behaviour
        Number of decoded signals, 0 for none.
    taus
        Time constants of the exponential averages, in bins.
    dropout
        Rate at every dropout in training.
    """

    n_in: int
    n_out: int
    window: int = 32
    layers: int = 2
    heads: int = 4
    head_width: int = 16
    hidden: int = 256
    spatial: Spatial = "exact"
    course: int = 32
    look_ahead: int = 0
    behaviour: int = 0
    taus: tuple[float, ...] = (1.0, 3.0, 10.0)
    dropout: float = 0.2

    @property
    def features(self) -> int:
        """Number of features per bin."""
        return (1 + len(self.taus)) * self.n_in


@dataclass
class StreamingState:
    """What one bin hands to the next; the module's docstring says what each tensor holds.

    Attributes
    ----------
    position
        Bins seen since the segment began.
    average
        (taus, n_in).
    key, value
        (layers, window, heads * head_width), ring buffers.
    gram
        (n_out, n_out), or (0, 0) unless mixing is recursive.
    course
        (course, n_out), a ring buffer, or (0, 0) unless mixing is exact.
    delayed
        (look_ahead, features), oldest first.
    """

    position: int
    average: Tensor
    key: Tensor
    value: Tensor
    gram: Tensor
    course: Tensor
    delayed: Tensor


class Layer(nn.Module):
    """One layer: banded temporal attention, mixing over neurons, feed-forward part."""

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        d, e = config.n_out, config.heads * config.head_width
        self.config = config
        self.norm_time = nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * e)
        self.out = nn.Linear(e, d, bias=False)
        slopes = 2.0 ** (-8.0 * torch.arange(1, config.heads + 1) / config.heads)
        self.bias = nn.Parameter(-slopes[:, None] * torch.arange(config.window))
        self.norm_hidden = nn.LayerNorm(d)
        self.up = nn.Linear(d, config.hidden)
        self.down = nn.Linear(config.hidden, d)
        self.dropout = nn.Dropout(config.dropout)
        if config.spatial != "none":
            self.norm_space = nn.LayerNorm(d)
        if config.spatial in ("frozen", "recursive"):
            self.mix = nn.Parameter(0.1 * torch.randn(d, d))
        if config.spatial == "recursive":
            self.gain = nn.Parameter(torch.ones(()))
            self.forget = nn.Parameter(torch.tensor(3.0))
        if config.spatial == "exact":
            c = config.course
            spread = 0.25 / math.sqrt(c)
            self.space_query = nn.Parameter(spread * torch.randn(c, SPACE_WIDTH))
            self.space_key = nn.Parameter(spread * torch.randn(c, SPACE_WIDTH))
            self.space_query_bias = nn.Parameter(torch.zeros(d, SPACE_WIDTH))
            self.space_key_bias = nn.Parameter(torch.zeros(d, SPACE_WIDTH))

    def forward(self, z: Tensor, segment: Tensor) -> Tensor:
        """Run whole stretches; z is (batch, bins, n_out), segment (batch, bins)."""
        z = z + self.dropout(self._attend(self.norm_time(z), segment))
        if self.config.spatial != "none":
            z = z + self.dropout(self._mix(self.norm_space(z), segment))
        z = z + self.dropout(self._feed(self.norm_hidden(z)))
        return z

    def _feed(self, s: Tensor) -> Tensor:
        fed: Tensor = self.down(torch.relu(self.up(s)))
        return fed

    def _attend(self, s: Tensor, segment: Tensor) -> Tensor:
        c = self.config
        batch, bins, _ = s.shape
        block = max(min(bins, _BLOCK), 1)
        blocks = -(-bins // block)
        tail = blocks * block - bins
        q, k, v = (
            t.view(batch, bins, c.heads, c.head_width).transpose(1, 2)
            for t in self.qkv(s).chunk(3, dim=-1)
        )
        reach = c.window - 1
        q = functional.pad(q, (0, 0, 0, tail)).unflatten(2, (blocks, block))
        # Each block of queries meets its own keys and the `reach` bins before them.
        k, v = (
            functional.pad(t, (0, 0, reach, tail)).unfold(2, reach + block, block) for t in (k, v)
        )
        own = functional.pad(segment, (0, tail), value=-1).unflatten(1, (blocks, block))
        seen = functional.pad(segment, (reach, tail), value=-2).unfold(1, reach + block, block)
        age = (
            torch.arange(block, device=s.device)[:, None]
            + reach
            - torch.arange(reach + block, device=s.device)
        )
        banded = (age >= 0) & (age < c.window)
        bias = self.bias[:, age.clamp(0, reach)].masked_fill(~banded, -torch.inf)
        same = own[..., :, None] == seen[..., None, :]
        # Rows of padding match no key; they see everything, and are cut off below.
        same = same | (own[..., :, None] == -1)
        scores = q @ k / math.sqrt(c.head_width) + bias[:, None]
        scores = scores.masked_fill(~same[:, None], -torch.inf)
        weights = scores.softmax(-1)
        mixed = (weights @ v.transpose(-1, -2)).flatten(2, 3)[:, :, :bins]
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _mix(self, s: Tensor, segment: Tensor) -> Tensor:
        if self.config.spatial == "frozen":
            return s @ self.mix.softmax(-1).T
        if self.config.spatial == "recursive":
            return self._mix_recursive(s, segment)
        return self._mix_exact(s, segment)

    def _mix_recursive(self, s: Tensor, segment: Tensor) -> Tensor:
        forget = self.forget.sigmoid()
        gram = s.new_zeros(s.shape[0], s.shape[2], s.shape[2])
        last = torch.full_like(segment[:, 0], -1)
        mixed = []
        for t0 in range(0, s.shape[1], _BLOCK):
            part, ids = s[:, t0 : t0 + _BLOCK], segment[:, t0 : t0 + _BLOCK]
            kernel, carry = _decay_kernel(forget[None], ids, last)
            outer = (part[..., :, None] * part[..., None, :]).flatten(2)
            grams = (kernel[:, 0] @ outer).unflatten(2, gram.shape[1:])
            grams = grams + carry[:, 0, :, None, None] * gram[:, None]
            matrix = (self.mix + self.gain * grams).softmax(-1)
            mixed.append((matrix @ part[..., None])[..., 0])
            gram, last = grams[:, -1], ids[:, -1]
        return torch.cat(mixed, dim=1)

    def _mix_exact(self, s: Tensor, segment: Tensor) -> Tensor:
        c = self.config.course
        padded = functional.pad(s, (0, 0, c - 1, 0)).unfold(1, c, 1)
        seen = functional.pad(segment, (c - 1, 0), value=-1).unfold(1, c, 1)
        # Per bin, one token per neuron: its last `course` values, newest last.
        tokens = padded * (seen == segment[..., None])[:, :, None]
        q, k = (tokens @ torch.cat([self.space_query, self.space_key], 1)).chunk(2, -1)
        q, k = q + self.space_query_bias, k + self.space_key_bias
        # Values as wide as queries let torch fuse the product, which never stores the matrix.
        values = functional.pad(s[..., None], (0, SPACE_WIDTH - 1))
        return functional.scaled_dot_product_attention(q, k, values, scale=1.0)[..., 0]

    def step(self, z: Tensor, state: StreamingState, number: int) -> Tensor:
        """Run one bin; z is (n_out,). Writes the parts of this layer in place."""
        c, position = self.config, state.position
        key, value = state.key[number], state.value[number]
        q, k, v = self.qkv(self.norm_time(z)).chunk(3)
        slot = position % c.window
        key[slot], value[slot] = k, v
        age = (slot - torch.arange(c.window)) % c.window
        bias = self.bias[:, age].masked_fill(age > position, -torch.inf)
        shape = (c.window, c.heads, c.head_width)
        scores = torch.einsum("he,whe->hw", q.view(c.heads, -1), key.view(shape))
        weights = (scores / math.sqrt(c.head_width) + bias).softmax(-1)
        mixed = torch.einsum("hw,whe->he", weights, value.view(shape)).flatten()
        z = z + self.out(mixed)
        if c.spatial != "none":
            s = self.norm_space(z)
            if c.spatial == "exact":
                state.course[position % c.course] = s
            elif c.spatial == "recursive":
                forget = self.forget.sigmoid()
                state.gram.mul_(forget).add_((1 - forget) * torch.outer(s, s))
            z = z + self.spatial_matrix(state, position) @ s
        return z + self._feed(self.norm_hidden(z))

    def spatial_matrix(self, state: StreamingState, position: int) -> Tensor:
        """Return how neurons attend to each other at the bin `position`, (n_out, n_out).

        The state is that after the bin; mixing is not `none`. Each row sums to one.
        """
        c = self.config
        if c.spatial == "frozen":
            return self.mix.softmax(-1)
        if c.spatial == "recursive":
            return (self.mix + self.gain * state.gram).softmax(-1)
        oldest_first = (position + 1 + torch.arange(c.course)) % c.course
        tokens = state.course[oldest_first].T
        q = tokens @ self.space_query + self.space_query_bias
        k = tokens @ self.space_key + self.space_key_bias
        return (q @ k.T).softmax(-1)


class StreamingSTNDT(nn.Module):
    """The network; `forward` runs whole stretches, `step` one bin with a state."""

    def __init__(self, config: StreamingConfig) -> None:
        super().__init__()
        self.config = config
        self.delay_bins = config.look_ahead
        self.scales = Scales(config.n_in, config.behaviour)
        self.embed = nn.Linear(config.features, config.n_out)
        later = replace(config, spatial="none")
        self.layers = nn.ModuleList(
            Layer(later if number else config) for number in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.n_out)
        self.head = nn.Linear(config.n_out + config.features, config.n_out + config.behaviour)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.head.weight)

    def calibrate(self, counts: Tensor, inputs: Tensor, behaviour: Tensor) -> None:
        """Take scales and starting rates from training data; see `RateNetwork.calibrate`."""
        self.scales.calibrate(counts[:, inputs], behaviour)
        start_at_mean_rates(self.head, counts)

    def forward(
        self, counts: Tensor, segment: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run whole stretches, as `step` would bin by bin.

        Parameters
        ----------
        counts
            (batch, bins, n_in) spike counts.
        segment
            (batch, bins) integer ids >= 0, constant within a segment, different from one segment
            to the next.
        keep
            (batch, bins, n_in) of 0 and 1: entries with 0 are hidden, that is, set to the mean.

        Returns
        -------
        log_counts
            (batch, bins, n_out), log of expected spikes per bin.
        behaviour
            (batch, bins, behaviour), physical units.
        """
        c = self.config
        v = self.scales.standardise(counts, keep)
        f = torch.cat([v, self._averages(v, segment)], dim=-1)
        z = self.dropout(self.embed(f))
        for layer in self.layers:
            z = layer(z, segment)
        if c.look_ahead:
            late = functional.pad(f, (0, 0, c.look_ahead, 0))[:, : f.shape[1]]
            before = functional.pad(segment, (c.look_ahead, 0), value=-1)[:, : f.shape[1]]
            f = late * (before == segment)[..., None]
        y = self.head(torch.cat([self.dropout(self.norm(z)), self.dropout(f)], dim=-1))
        return y[..., : c.n_out], self.scales.physical(y[..., c.n_out :])

    def _averages(self, v: Tensor, segment: Tensor) -> Tensor:
        decay = self._decay(v)
        last = torch.full_like(segment[:, 0], -1)
        average = v.new_zeros(v.shape[0], len(decay), v.shape[2])
        parts = []
        for t0 in range(0, v.shape[1], _BLOCK):
            ids = segment[:, t0 : t0 + _BLOCK]
            kernel, carry = _decay_kernel(decay, ids, last)
            averages = (
                kernel @ v[:, None, t0 : t0 + _BLOCK] + carry[..., None] * average[:, :, None]
            )
            parts.append(averages)
            average, last = averages[:, :, -1], ids[:, -1]
        return torch.cat(parts, dim=2).transpose(1, 2).flatten(2)

    def _decay(self, like: Tensor) -> Tensor:
        return torch.exp(
            -1.0 / torch.tensor(self.config.taus, dtype=like.dtype, device=like.device)
        )

    def start(self) -> StreamingState:
        """Return the state at the start of a segment."""
        c = self.config
        width = c.n_out if c.spatial == "recursive" else 0
        ring = (c.layers, c.window, c.heads * c.head_width)
        course = (c.course, c.n_out) if c.spatial == "exact" else (0, 0)
        return StreamingState(
            position=0,
            average=torch.zeros(len(c.taus), c.n_in),
            key=torch.zeros(ring),
            value=torch.zeros(ring),
            gram=torch.zeros(width, width),
            course=torch.zeros(course),
            delayed=torch.zeros(c.look_ahead, c.features),
        )

    @torch.no_grad()
    def step(self, counts: Tensor, state: StreamingState) -> tuple[Tensor, Tensor, StreamingState]:
        """Run one bin: counts (n_in,) to log_counts (n_out,), behaviour and the next state.

        The states of the layers are written in place.
        """
        c = self.config
        v = self.scales.standardise(counts)
        decay = self._decay(v)[:, None]
        average = decay * state.average + (1 - decay) * v
        f = torch.cat([v, average.flatten()])
        z = self.embed(f)
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, Layer)
            z = layer.step(z, state, i)
        queue = torch.cat([state.delayed, f[None]])
        y = self.head(torch.cat([self.norm(z), queue[0]]))
        following = replace(state, position=state.position + 1, average=average, delayed=queue[1:])
        return y[: c.n_out], self.scales.physical(y[c.n_out :]), following


def _decay_kernel(decay: Tensor, ids: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return how an exponential average in a block weighs the block's bins and what came before.

    decay is (k,), ids (batch, bins) and last (batch,) are segment ids. The kernel is
    (batch, k, bins, bins), the weight of the average before the block (batch, k, bins).
    """
    steps = torch.arange(ids.shape[1], device=ids.device)
    lag = steps[:, None] - steps
    powers = decay[:, None, None] ** lag.clamp(min=0) * (lag >= 0)
    same = ids[:, :, None] == ids[:, None, :]
    kernel = (1 - decay)[:, None, None] * powers * same[:, None]
    carry = decay[:, None] ** (steps + 1) * (ids == last[:, None])[:, None]
    return kernel, carry
