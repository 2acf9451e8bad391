"""The steps that a GPU does in one pass: frames to pictures, patches to probabilities, and probabilities to maps.

Each is a kernel in Triton beside a reference in plain torch that gives the same anywhere; triton is optional. A device uses
the kernels only if they gave what their references gave in a check on it; where they did not, or cannot be built, the
references are used and the log says why.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Preprocessing
from edge_agent.kernels import heatmap, pictures, similarity
from edge_agent.kernels.proof import usable
from edge_agent.kernels.similarity import Similarities


def prepare(frames: Tensor, preprocessing: Preprocessing, out: Tensor) -> None:
    """Resize and normalise frames into `out`.

    Args:
        frames: (B, H, W, 3) uint8 RGB of any strides.
        preprocessing: of the backbone.
        out: (B, 3, S, S), contiguous; written in its own precision.
    """
    (pictures.kernel if usable(frames.device) else pictures.reference)(frames, preprocessing, out)


def compare(features: Tensor, states: Tensor, temperature: float | Tensor, keep: Tensor | None = None) -> Similarities:
    """Compare N patches of each of R rows with the states; differentiable where gradients are enabled.

    Args:
        features: (R, N, D), of any length, precision and strides.
        states: (R or 1, 2, D) unit, normal then anomalous.
        temperature: what cosines are divided by before the softmax.
        keep: (R, N) bool, patches that may be the peak; where none may, it is 0. None for all.
    """
    if torch.is_grad_enabled() or isinstance(temperature, Tensor) or not usable(features.device):
        return similarity.reference(features, states, temperature, keep)
    return similarity.kernel(features, states, temperature, keep)


def heatmaps(
    patches: Tensor, size: int, sigma: float, upsampling: str = "bilinear", dtype: torch.dtype = torch.float32
) -> Tensor:
    """Compute maps (B, size, size) in [0, 1].

    Args:
        patches: (B, h, w) fp32 in [0, 1].
        size: side of the map in pixels.
        sigma: of the blur, in pixels of a map of side 518, as the papers give it.
        upsampling: "bilinear" or "nearest".
        dtype: of the maps.
    """
    return (heatmap.kernel if usable(patches.device) else heatmap.reference)(patches, size, sigma, upsampling, dtype)
