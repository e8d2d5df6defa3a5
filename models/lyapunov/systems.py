"""Systems whose Lyapunov exponents are known: what a measurement of exponents is held against."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.func import jvp

from models.lyapunov.steps import RecurrentStep, Step

HENON = (0.4192, -1.6232)
"""Exponents of the Henon map in nats a step (Sprott, Chaos and Time-Series Analysis, 2003)."""
LORENZ = (0.9056, 0.0, -14.5723)
"""Exponents of the Lorenz system in nats a unit of time (the same)."""
LORENZ_STEP = 0.01


def henon(state: Tensor, fed: Tensor) -> Tensor:
    """Return the next point (2,) of the Henon map, a = 1.4, b = 0.3."""
    x, y = state.unbind()
    return torch.stack([1 - 1.4 * x**2 + y, 0.3 * x])


def lorenz(state: Tensor, fed: Tensor) -> Tensor:
    """Return the Lorenz system (3,) `LORENZ_STEP` later, by Runge-Kutta of fourth order."""

    def change(at: Tensor) -> Tensor:
        x, y, z = at.unbind()
        return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z])

    dt = LORENZ_STEP
    k1 = change(state)
    k2 = change(state + dt / 2 * k1)
    k3 = change(state + dt / 2 * k2)
    k4 = change(state + dt * k3)
    return state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def linear(matrix: Tensor) -> Step:
    """Return the linear map of a matrix (n, n): its exponents are log absolute eigenvalues."""
    return lambda state, fed: matrix @ state


def random_network(units: int, gain: float, seed: int) -> Step:
    """Return h' = tanh(W h), W normal with variance gain^2 / units.

    It dies out for gains below 1 and is chaotic above, if large (Sompolinsky et al., PRL 1988).
    """
    generator = torch.Generator().manual_seed(seed)
    spread = gain / math.sqrt(units)
    weight = spread * torch.randn(units, units, generator=generator, dtype=torch.float64)
    return lambda state, fed: torch.tanh(weight @ state)


def chaotic_lstm() -> RecurrentStep:
    """Return an LSTM of 32 units with 4 inputs that is chaotic, which its h alone does not show."""
    torch.manual_seed(0)
    layer = nn.LSTM(4, 32).double()
    with torch.no_grad():
        dict(layer.named_parameters())["weight_hh_l0"].mul_(8.0)
    return RecurrentStep(layer)


@torch.no_grad()
def exponent_of_h_alone(lstm: RecurrentStep, inputs: Tensor, warm_up: int = 100) -> float:
    """Return what the largest exponent of an LSTM of one layer is taken for without its c.

    This is how a Jacobian dh'/dh with c held fixed judges it, which is wrong.

    Parameters
    ----------
    lstm
        Of one layer.
    inputs
        (steps, m), of the dtype of the weights.
    warm_up
        Steps that do not count.
    """
    hidden = lstm.module.hidden_size
    state, total = inputs.new_zeros(lstm.size), 0.0
    direction = torch.ones(hidden, dtype=inputs.dtype)
    for t, x in enumerate(inputs):
        h, c = state.chunk(2)
        direction = jvp(
            lambda at, c=c, x=x: lstm(torch.cat([at, c]), x)[:hidden], (h,), (direction,)
        )[1]
        size = direction.norm()
        direction = direction / size
        total += float(size.log()) if t >= warm_up else 0.0
        state = lstm(state, x)
    return total / (len(inputs) - warm_up)
