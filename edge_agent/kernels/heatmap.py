"""Patches to the map that verdicts and overlays need: upsampled, smoothed and clamped to [0, 1], in one step."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from edge_agent.kernels import bands, scoring
from edge_agent.kernels.kernel import Kernel

BLOCK = 256  # pixels of each program
tl: Any = None  # triton.language, once there is a kernel to build


def reference(patches: Tensor, size: int, sigma: float, upsampling: str, dtype: torch.dtype) -> Tensor:
    """See fused.heatmaps. In plain torch."""
    return scoring.heatmaps(patches, size, sigma, upsampling).to(dtype)


def kernel(patches: Tensor, size: int, sigma: float, upsampling: str, dtype: torch.dtype) -> Tensor:
    """See fused.heatmaps. In Triton: both steps are linear along each axis, so they are one banded matrix for each axis."""
    B, h, w = patches.shape
    rows = upsampling_band(h, size, sigma, upsampling, patches.device)
    columns = upsampling_band(w, size, sigma, upsampling, patches.device)
    out = patches.new_empty((B, size, size), dtype=dtype)
    _kernel[(-(-size * size // BLOCK), B)](
        patches,
        *(rows.first, rows.weights, rows.taps),
        *(columns.first, columns.weights, columns.taps),
        out,
        size,
        *patches.stride(),
        BLOCK=BLOCK,
    )
    return out


@lru_cache(maxsize=64)
def upsampling_band(cells: int, size: int, sigma: float, upsampling: str, device: torch.device) -> bands.Band:
    """Return scoring.upsampling_matrix as a band; for the arguments see there."""
    return bands.on(bands.band(scoring.upsampling_matrix(cells, size, sigma, upsampling, torch.device("cpu"))), device)


@Kernel
def _kernel(  # type: ignore[no-untyped-def]
    patches,
    first_y,
    weights_y,
    taps_y,
    first_x,
    weights_x,
    taps_x,
    out,
    size,
    stride_b,
    stride_y,
    stride_x,
    BLOCK: tl.constexpr,
):
    picture = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # pixels of the map, row by row
    inside = at < size * size
    y, x = at // size, at % size
    top = tl.load(first_y + y, mask=inside, other=0)
    left = tl.load(first_x + x, mask=inside, other=0)
    corner = patches + picture * stride_b + top * stride_y + left * stride_x
    sums = tl.zeros((BLOCK,), tl.float32)
    for i in range(taps_y):
        row = tl.zeros((BLOCK,), tl.float32)
        for j in range(taps_x):
            weight = tl.load(weights_x + j * size + x, mask=inside, other=0.0)
            row += weight * tl.load(corner + i * stride_y + j * stride_x, mask=inside, other=0.0).to(tl.float32)
        sums += tl.load(weights_y + i * size + y, mask=inside, other=0.0) * row
    value = tl.minimum(tl.maximum(sums, 0.0), 1.0)
    tl.store(out + picture * size * size + at, value.to(out.dtype.element_ty), mask=inside)
