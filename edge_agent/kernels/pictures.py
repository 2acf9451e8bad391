"""Camera frames to a vision tower's pictures: resized with antialias, normalised, channels first."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_agent.backbones.backbone import Preprocessing
from edge_agent.kernels import bands
from edge_agent.kernels.kernel import Kernel

BLOCK = 128  # pixels of each program
tl: Any = None  # triton.language, once there is a kernel to build


def reference(frames: Tensor, preprocessing: Preprocessing, out: Tensor) -> None:
    """See fused.prepare. In plain torch."""
    x = frames.permute(0, 3, 1, 2).float()
    if x.shape[2:] != out.shape[2:]:
        x = F.interpolate(x, size=out.shape[2:], mode=preprocessing.interpolation, antialias=True, align_corners=False)
    if preprocessing.round_levels:
        x = x.round().clamp(0, 255)
    mean, std = (
        torch.tensor(each, device=x.device).view(1, 3, 1, 1) for each in (preprocessing.mean, preprocessing.std)
    )
    out.copy_((x / 255 - mean) / std)


def kernel(frames: Tensor, preprocessing: Preprocessing, out: Tensor) -> None:
    """See fused.prepare. In Triton: each pixel is written once, without intermediate results in memory."""
    B, H, W, _ = frames.shape
    size = out.shape[3]
    rows = bands.resampling(H, size, preprocessing.interpolation, frames.device)
    columns = bands.resampling(W, size, preprocessing.interpolation, frames.device)
    scale = [1 / (255 * std) for std in preprocessing.std]
    shift = [-mean / std for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)]
    _kernel[(-(-size * size // BLOCK), B)](
        frames,
        *(rows.first, rows.weights, rows.taps),
        *(columns.first, columns.weights, columns.taps),
        out,
        size,
        *frames.stride(),
        *scale,
        *shift,
        LEVELS=preprocessing.round_levels,
        BLOCK=BLOCK,
    )


@Kernel
def _kernel(  # type: ignore[no-untyped-def]
    frames,
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
    stride_c,
    scale_r,
    scale_g,
    scale_b,
    shift_r,
    shift_g,
    shift_b,
    LEVELS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    picture = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)  # pixels of the output, row by row
    inside = at < size * size
    y, x = at // size, at % size
    channel = tl.arange(0, 4)[None, :]  # a power of two; there is no fourth channel
    there = inside[:, None] & (channel < 3)
    top = tl.load(first_y + y, mask=inside, other=0).to(tl.int64)
    left = tl.load(first_x + x, mask=inside, other=0).to(tl.int64)
    corner = frames + picture * stride_b + (top * stride_y + left * stride_x)[:, None] + channel * stride_c
    sums = tl.zeros((BLOCK, 4), tl.float32)
    for i in range(taps_y):
        row = tl.zeros((BLOCK, 4), tl.float32)
        for j in range(taps_x):
            weight = tl.load(weights_x + j * size + x, mask=inside, other=0.0)
            row += weight[:, None] * tl.load(corner + i * stride_y + j * stride_x, mask=there, other=0).to(tl.float32)
        sums += tl.load(weights_y + i * size + y, mask=inside, other=0.0)[:, None] * row
    if LEVELS:
        sums = tl.floor(tl.minimum(tl.maximum(sums, 0.0), 255.0) + 0.5)
    scale = tl.where(channel == 0, scale_r, tl.where(channel == 1, scale_g, scale_b))
    shift = tl.where(channel == 0, shift_r, tl.where(channel == 1, shift_g, shift_b))
    place = out + (picture * 3 + channel) * size * size + at[:, None]
    tl.store(place, (sums * scale + shift).to(out.dtype.element_ty), mask=there)
