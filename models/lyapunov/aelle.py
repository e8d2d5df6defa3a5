"""AeLLE: an autoencoder of Lyapunov spectra whose code also says how good the network will be.

After Vogt et al., Neural Computing and Applications 2024: spectra are encoded, rebuilt with an
absolute error, and from the code a linear head predicts the quality with a squared error, weighted
by `head_weight`. On a few hundred networks principal components and ridge regression
(`models.lyapunov.prediction.PcaRidge`) are what it has to beat.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AelleSettings:
    """Sizes and training of the autoencoder.

    Attributes
    ----------
    code
        Width of the code; the layer between it and the spectrum is as wide as a quarter of the
        spectrum.
    dropout
        Of the code, in training.
    head_weight
        Of the squared error of the standardised quality.
    updates, learning_rate, weight_decay
        Of AdamW, each on all spectra at once.
    seed
        Of weights and dropout.
    """

    code: int = 32
    dropout: float = 0.1
    head_weight: float = 1.0
    updates: int = 300
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    seed: int = 0


class SpectrumAutoencoder(nn.Module):
    """Encoder, decoder and head."""

    def __init__(self, width: int, extra: int, settings: AelleSettings) -> None:
        super().__init__()
        between = max(width // 4, settings.code)
        self.encode = nn.Sequential(
            nn.Linear(width, between), nn.ReLU(), nn.Linear(between, settings.code), nn.Tanh(),
            nn.Dropout(settings.dropout),
        )  # fmt: skip
        self.decode = nn.Sequential(
            nn.Linear(settings.code, between), nn.ReLU(), nn.Linear(between, width)
        )
        self.head = nn.Linear(settings.code + extra, 1)

    def forward(self, spectra: Tensor, extra: Tensor) -> tuple[Tensor, Tensor]:
        """Return rebuilt spectra (n, width) and quality (n,) of spectra and other features."""
        code = self.encode(spectra)
        return self.decode(code), self.head(torch.cat([code, extra], dim=1))[:, 0]


class Aelle:
    """The autoencoder as a regressor: the first `spectrum` columns of x are the spectrum."""

    def __init__(self, spectrum: int, settings: AelleSettings | None = None) -> None:
        self.spectrum = spectrum
        self.settings = settings or AelleSettings()

    def fit(self, x: Array, y: Array) -> Aelle:
        """Train on rows of x (n, features) and y (n,)."""
        s = self.settings
        self._mean, self._std = x.mean(0), x.std(0) + 1e-9
        self._centre, self._scale = float(y.mean()), float(y.std()) + 1e-9
        spectra, extra = self._tensors(x)
        wanted = torch.tensor((y - self._centre) / self._scale, dtype=torch.float32)
        torch.manual_seed(s.seed)
        self.network = SpectrumAutoencoder(self.spectrum, extra.shape[1], s).train()
        optimiser = torch.optim.AdamW(
            self.network.parameters(), s.learning_rate, weight_decay=s.weight_decay
        )
        for _ in range(s.updates):
            rebuilt, quality = self.network(spectra, extra)
            loss = (rebuilt - spectra).abs().mean()
            loss = loss + s.head_weight * (quality - wanted).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        self.network.eval()
        return self

    @torch.no_grad()
    def predict(self, x: Array) -> Array:
        """Return the quality (n,) of rows."""
        quality: Tensor = self.network(*self._tensors(x))[1]
        return quality.double().numpy() * self._scale + self._centre

    @torch.no_grad()
    def codes(self, x: Array) -> Array:
        """Return the codes (n, code) of rows."""
        codes: Tensor = self.network.encode(self._tensors(x)[0])
        return codes.double().numpy()

    def _tensors(self, x: Array) -> tuple[Tensor, Tensor]:
        whole = torch.tensor((x - self._mean) / self._std, dtype=torch.float32)
        return whole[:, : self.spectrum], whole[:, self.spectrum :]
