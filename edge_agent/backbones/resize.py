"""Pictures of any sizes to one batch of one size, on the device that reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def pictures_to_tensor(images: Sequence[np.ndarray], size: int, device: torch.device) -> Tensor:
    """Resize pictures, bilinear with antialias, without keeping their aspect.

    Args:
        images: (H, W, 3) uint8 RGB, of any sizes.
        size: side in pixels of the result.
        device: where the result is made.

    Returns (B, 3, size, size) fp32 in [0, 1].
    """
    batch = []
    for image in images:
        x = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1).unsqueeze(0)  # (1, 3, H, W)
        if device.type != "cpu":  # only the CPU resizes bytes, and faster than floats
            x = x.float()
        if x.shape[2:] != (size, size):
            x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
        batch.append(x)
    return torch.cat(batch).float() / 255
