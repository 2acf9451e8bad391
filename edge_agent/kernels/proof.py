"""Checks that the kernels give what their references give on a device, on random inputs with odd sizes and strides."""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Preprocessing
from edge_agent.kernels import heatmap, pictures, similarity

log = logging.getLogger(__name__)

LEVEL = 1 / 255
CLIP = Preprocessing("bicubic", True, (0.481, 0.458, 0.408), (0.269, 0.261, 0.276))


@cache
def usable(device: torch.device) -> bool:
    """Whether kernels run on this device and give what their references give. Checked once; not while a graph is captured."""
    if device.type != "cuda":
        return False
    try:
        wrong = [name for name, (found, allowed) in differences(device).items() if not found <= allowed]
    except Exception as error:  # of the compiler, the driver or an old card: the references work
        wrong = [f"{type(error).__name__}: {str(error)[:200]}"]
    if wrong:
        log.warning("%s: plain torch instead of our kernels, slower but the same (%s)", device, ", ".join(wrong))
    return not wrong


def differences(device: torch.device, half: torch.dtype = torch.float16) -> dict[str, tuple[float, float]]:
    """Return by name the largest difference and the largest that rounding explains. half: the half precision that is checked."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    frames = torch.randint(0, 256, (2, 61, 90, 3), generator=generator, dtype=torch.uint8).to(device)[:, 3:, 5:78]
    rounding = 2 * torch.finfo(half).eps
    found = {
        "pictures": (_picture_difference(frames, Preprocessing(), half), rounding),
        # Half a level may be rounded either way; the division by std enlarges that.
        "pictures of CLIP": (_picture_difference(frames, CLIP, half), LEVEL / 0.261 + 2 * rounding),
    }
    features = random(3, 41, 328).to(device, half)[:, :, :300]
    states = torch.nn.functional.normalize(random(3, 2, 300), dim=2).to(device)
    keep = (random(3, 41) > 0).to(device)
    ours, theirs = (way(features, states, 0.07, keep) for way in (similarity.kernel, similarity.reference))
    found["similarity"] = (max(_difference(one, other) for one, other in zip(ours, theirs, strict=True)), 1e-4)
    patches = torch.rand((2, 11, 7), generator=generator).to(device)
    for kind in ("bilinear", "nearest"):
        maps = [way(patches, 45, 8.0, kind, torch.float32) for way in (heatmap.kernel, heatmap.reference)]
        found[f"{kind} heatmap"] = (_difference(*maps), 1e-5)
    return found


def _picture_difference(frames: Tensor, preprocessing: Preprocessing, half: torch.dtype) -> float:
    made = [frames.new_empty((len(frames), 3, 33, 33), dtype=half) for _ in range(2)]
    pictures.kernel(frames, preprocessing, made[0])
    pictures.reference(frames, preprocessing, made[1])
    return _difference(*made)


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())
