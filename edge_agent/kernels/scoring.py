"""Features to probabilities, scores and maps: pure and differentiable, one code for fitting and inspecting."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MIN_PROBABILITY = 1e-6  # smaller probabilities are raised to this, so that their odds are finite


def unit(x: Tensor) -> Tensor:
    """Normalise x along its last axis to length 1, in fp32."""
    return F.normalize(x.float(), dim=-1)


def state_feature(sentences: Tensor) -> Tensor:
    """Average the sentences' features (S, D) of one state to one unit feature (D,): unit, mean, unit."""
    return unit(unit(sentences).mean(dim=0))


def anomalous_probability(features: Tensor, states: Tensor, temperature: float | Tensor) -> Tensor:
    """Return the probability of anomalous (...), fp32 in [0, 1].

    Args:
        features: (..., D), of any length.
        states: (2, D) unit, normal then anomalous.
        temperature: what cosines are divided by before the softmax.
    """
    normal, anomalous = (unit(features) @ states.float().T / temperature).unbind(dim=-1)
    return torch.sigmoid(anomalous - normal)  # = softmax over two states


def resize_bilinear(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize maps (B, h, w) bilinearly to (B, H, W). size: (H, W), or the side of a square."""
    target = (size, size) if isinstance(size, int) else size
    return F.interpolate(maps.unsqueeze(1), size=target, mode="bilinear", align_corners=False).squeeze(1)


def resize_aligned(maps: Tensor, size: int) -> Tensor:
    """Resize maps (B, C, h, w) bilinearly to (B, C, size, size) so that the corner cells' centres stay in the corners."""
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=True)


def resize_nearest(maps: Tensor, size: int) -> Tensor:
    """Resize maps (B, h, w) to (B, size, size) by nearest neighbour."""
    return F.interpolate(maps.unsqueeze(1), size=(size, size), mode="nearest").squeeze(1)


def heatmaps(patches: Tensor, size: int, sigma: float, upsampling: str = "bilinear") -> Tensor:
    """Compute smoothed maps (B, size, size) in [0, 1] of patches (B, h, w); arguments: see kernels.heatmap.heatmaps."""
    rows, columns = (upsampling_matrix(cells, size, sigma, upsampling, patches.device) for cells in patches.shape[1:])
    return (rows @ patches @ columns.T).clamp(0, 1)


def upsampling_matrix(cells: int, size: int, sigma: float, upsampling: str, device: torch.device) -> Tensor:
    """Return the matrix (size, cells) of upsampling and then smoothing along one axis; both are linear and separable.

    Args:
        cells: patches along the axis.
        size: pixels along the axis.
        sigma: of the blur, in pixels of a map of side 518.
        upsampling: "bilinear" or "nearest".
        device: where the matrix is made.
    """
    # On a GPU it may be captured in a graph, so it has to be computed there each time, which costs next to nothing.
    return (_cached_upsampling_matrix if device.type == "cpu" else _upsampling_matrix)(
        cells, size, sigma, upsampling, device
    )


def _upsampling_matrix(cells: int, size: int, sigma: float, upsampling: str, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():  # a later product with it may need gradients
        single = torch.eye(cells, device=device).unsqueeze(2)  # (cells, cells, 1)
        if upsampling == "nearest":
            columns = F.interpolate(single.unsqueeze(1), (size, 1), mode="nearest").squeeze(1)
        else:
            columns = resize_bilinear(single, (size, 1))
        return smooth(columns, sigma * size / 518)[:, :, 0].T.contiguous()


_cached_upsampling_matrix = lru_cache(maxsize=64)(_upsampling_matrix)


def smooth(maps: Tensor, sigma: float) -> Tensor:
    """Blur (B, H, W) with a Gaussian of sigma pixels, cut off at 4 sigma; edges are mirrored with the edge pixel repeated, as in SciPy."""
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return maps
    offsets = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).reshape(1, 1, -1)
    for _ in range(2):  # along rows, then along columns
        lines = maps.flatten(0, 1).unsqueeze(1)  # (B * H, 1, W)
        lines = F.conv1d(lines[..., _mirrored(lines.shape[-1], radius, maps.device)], kernel)
        maps = lines.reshape(maps.shape).transpose(1, 2)
    return maps


def _mirrored(length: int, radius: int, device: torch.device) -> Tensor:
    """Return indices -radius .. length + radius - 1, mirrored at both ends: ... 1 0 | 0 1 2 ... n-1 | n-1 n-2 ..."""
    index = torch.arange(-radius, length + radius, device=device) % (2 * length)
    return torch.where(index < length, index, 2 * length - 1 - index)


def masks_to_tensor(masks: Sequence[np.ndarray | None], grid: tuple[int, int], device: torch.device) -> Tensor | None:
    """Resize keep masks to a grid: a cell counts when half of it does.

    Args:
        masks: per picture (h, w) bool of any size, or None where all of it counts.
        grid: (rows, columns).
        device: where the result is made.

    Returns (B, *grid) bool, or None where all of every picture counts.
    """
    if all(mask is None for mask in masks):
        return None
    rows = []
    for mask in masks:
        cells = torch.ones(1, 1, 1, 1) if mask is None else torch.from_numpy(mask.astype(np.float32))[None, None]
        rows.append(F.interpolate(cells, size=grid, mode="bilinear", antialias=True, align_corners=False)[0, 0] >= 0.5)
    return torch.stack(rows).to(device)
