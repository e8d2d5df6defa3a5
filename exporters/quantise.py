"""Weights as integers: blocks along the input axis, each with a scale of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 32


def quantise_blocks(
    weight: NDArray[np.float64], bits: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], int]:
    """Quantise a weight for ONNX Runtime's `MatMulNBits`, symmetric around zero.

    Each block of `BLOCK` inputs of one output has a scale. The scale is the one, of several near
    that of the largest weight in the block, with the least squared error.

    Parameters
    ----------
    weight
        (k, n), inputs by outputs.
    bits
        4 or 8.

    Returns
    -------
    blocks
        (n, ceil(k / BLOCK), BLOCK * bits / 8) uint8, two values a byte for 4 bits, the first in
        the low half.
    scales
        (n * ceil(k / BLOCK),) float32.
    block
        Size of a block.
    """
    k, n = weight.shape
    count = -(-k // BLOCK)
    padded = np.zeros((count * BLOCK, n))
    padded[:k] = weight
    values = padded.T.reshape(n, count, BLOCK)
    middle = 2 ** (bits - 1)
    at = np.abs(values).argmax(axis=2, keepdims=True)
    # The integers reach from -middle to middle - 1, so the largest weight is put at the far end.
    largest = np.take_along_axis(values, at, axis=2) / -middle
    best, codes, scales = np.full((n, count), np.inf), values, largest[..., 0]
    for factor in (1.0, 0.95, 0.9, 0.85, 1.05, 1.1):
        scale = np.where(largest == 0, 1.0, largest * factor).astype(np.float32).astype(np.float64)
        code = np.clip(np.round(values / scale), -middle, middle - 1)
        error = ((code * scale - values) ** 2).sum(axis=2)
        better = error < best
        codes = np.where(better[..., None], code, codes)
        scales = np.where(better, scale[..., 0], scales)
        best = np.where(better, error, best)
    shifted = (codes + middle).astype(np.uint8)
    if bits == 4:
        shifted = shifted[..., 0::2] | (shifted[..., 1::2] << 4)
    return shifted, scales.astype(np.float32).reshape(-1), BLOCK
