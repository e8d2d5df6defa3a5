"""The recurrent baseline: one GRU layer, and a linear path from the current bin to the heads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.spikes.network import Scales, start_at_mean_rates


@dataclass(frozen=True)
class GRUConfig:
    """Sizes of a GRU: units in and out, width, decoded signals, dropout in training."""

    n_in: int
    n_out: int
    hidden: int = 128
    behaviour: int = 0
    dropout: float = 0.2


class GRU(nn.Module):
    """Log rates and behaviour from spike counts.

    Of one bin, with state h (hidden,), 0 at the start of a segment, gates as in `torch.nn.GRU`::

        v = (log1p(counts) - input_mean) / input_std
        h = GRU(v, h)
        y = concat(h, v) head.weight^T + head.bias
        rates = exp(y[:n_out]) / width_s;  behaviour = y[n_out:] * behaviour_std + behaviour_mean
    """

    delay_bins = 0

    def __init__(self, config: GRUConfig) -> None:
        super().__init__()
        self.config = config
        self.scales = Scales(config.n_in, config.behaviour)
        self.gru = nn.GRU(config.n_in, config.hidden, batch_first=True)
        self.head = nn.Linear(config.hidden + config.n_in, config.n_out + config.behaviour)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.head.weight[:, config.hidden :])

    def calibrate(self, counts: Tensor, inputs: Tensor, behaviour: Tensor) -> None:
        """Take scales and starting rates from training data; see `RateNetwork.calibrate`."""
        self.scales.calibrate(counts[:, inputs], behaviour)
        start_at_mean_rates(self.head, counts)

    def forward(
        self, counts: Tensor, segment: Tensor, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run whole stretches; see `models.stndt.streaming.StreamingSTNDT.forward`."""
        v = self.scales.standardise(counts, keep)
        h = self.dropout(self._run(self.dropout(v), segment))
        y = self.head(torch.cat([h, v], dim=-1))
        n = self.config.n_out
        return y[..., :n], self.scales.physical(y[..., n:])

    def _run(self, v: Tensor, segment: Tensor) -> Tensor:
        """Return h of every bin; each segment of each row of the batch starts from zero."""
        first = torch.ones_like(segment, dtype=torch.bool)
        first[:, 1:] = segment[:, 1:] != segment[:, :-1]
        if not first[:, 1:].any():
            return self.gru(v)[0]  # type: ignore[no-any-return]
        starts = first.flatten().nonzero()[:, 0]
        lengths = torch.diff(starts, append=torch.tensor([segment.numel()]))
        stretches = torch.split(v.flatten(0, 1), lengths.tolist())
        packed = nn.utils.rnn.pack_sequence(list(stretches), enforce_sorted=False)
        padded, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        inside = torch.arange(padded.shape[1]) < lengths[:, None]
        whole: Tensor = padded[inside].unflatten(0, segment.shape)
        return whole

    @torch.no_grad()
    def step(self, counts: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run one bin: counts (n_in,) and h (hidden,) to log_counts, behaviour and the next h."""
        v = self.scales.standardise(counts)
        h = self.gru(v[None], state[None])[1][0]
        y = self.head(torch.cat([h, v]))
        n = self.config.n_out
        return y[:n], self.scales.physical(y[n:]), h

    def start(self) -> Tensor:
        """Return h at the start of a segment."""
        return torch.zeros(self.config.hidden)
