"""Lyapunov exponents of any step function, by products with its Jacobian and periodic QR.

Benettin et al., Meccanica 1980. Only products of the Jacobian with k directions are taken, by
forward derivatives, so the k largest exponents cost k products a step and no Jacobian is formed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap

from models.lyapunov.steps import Step
from stream.stability.spectrum import Spectrum


@torch.no_grad()
def lyapunov_spectrum(
    step: Step,
    start: Tensor,
    inputs: Tensor,
    *,
    k: int | None = None,
    warm_up: int = 100,
    every: int = 1,
    period_s: float | None = None,
    seed: int = 0,
) -> Spectrum:
    """Return the k largest exponents of a step function, driven by inputs.

    Parameters
    ----------
    step
        From a state (n,) and an input (m,) to the next state (n,).
    start
        State at the start: (n,) of every sequence, or (sequences, n), one for each. Its dtype is
        that of the arithmetic.
    inputs
        (sequences, steps, m); m may be 0 for a system without input.
    k
        All n of them unless given.
    warm_up
        Steps at the start of a sequence that do not count.
    every
        Steps between two orthonormalisations. Directions fall together by the gap between the
        largest and the smallest of the k exponents meanwhile, so that `every` times the gap must
        stay below about 30 nats in float64 and 12 in float32.
    period_s
        Length of a step.
    seed
        Of the first directions.

    Returns
    -------
    Spectrum
        In nats a step; NaN if the state went out of the range of numbers.

    Raises
    ------
    ValueError
        No steps are left after the warm-up.
    """
    sequences, steps, _ = inputs.shape
    if steps <= warm_up:
        raise ValueError(f"{steps} steps are no more than a warm-up of {warm_up}")
    n = start.shape[-1]
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(n, k or n, generator=generator, dtype=torch.float64).to(start)
    q = torch.linalg.qr(q.expand(sequences, -1, -1))[0]
    state = start.expand(sequences, n)
    logs = torch.zeros(sequences, k or n, dtype=torch.float64, device=start.device)

    def push(s: Tensor, x: Tensor, directions: Tensor) -> Any:
        def along(direction: Tensor) -> Tensor:
            moved: Tensor = jvp(lambda at: step(at, x), (s,), (direction,))[1]
            return moved

        return vmap(along, in_dims=1, out_dims=1)(directions)

    over_sequences, onwards = vmap(push), vmap(step)
    for t in range(steps):
        q = over_sequences(state, inputs[:, t], q)
        state = onwards(state, inputs[:, t])
        # Where counting begins, growth before it must not be left in q.
        if (t + 1) % every and t + 1 not in (warm_up, steps):
            continue
        q, r = torch.linalg.qr(q)
        if t >= warm_up:
            logs += r.diagonal(dim1=-2, dim2=-1).abs().log().double()
    return Spectrum.ordered((logs / (steps - warm_up)).cpu().numpy(), period_s)
