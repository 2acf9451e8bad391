"""Compares patches with two states in one pass over them: normalisation, cosines, softmax over the states, highest patch."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_agent.kernels.kernel import Kernel

PATCHES, NUMBERS = 8, 256  # tile of a program: patches, and numbers of each
EPS = 1e-12  # lengths are raised to this, as in torch's normalize
tl: Any = None  # triton.language, once there is a kernel to build


class Similarities(NamedTuple):
    """cosines: (R, 2, N), normal then anomalous. probability: (R, N), anomalous, in [0, 1]. peak: (R,), the highest. All fp32."""

    cosines: Tensor
    probability: Tensor
    peak: Tensor


def reference(
    features: Tensor, states: Tensor, temperature: float | Tensor, keep: Tensor | None = None
) -> Similarities:
    """See fused.compare. In plain torch."""
    states = states[0] if len(states) == 1 else states  # one product is faster than many
    cosines = F.normalize(features.float(), dim=2) @ states.float().mT  # (R, N, 2)
    normal, anomalous = (cosines / temperature).unbind(dim=2)
    probability = torch.sigmoid(anomalous - normal)  # = softmax over two states
    peak = (probability if keep is None else probability.masked_fill(~keep, 0)).amax(dim=1)
    return Similarities(cosines.mT, probability, peak)


def kernel(features: Tensor, states: Tensor, temperature: float, keep: Tensor | None = None) -> Similarities:
    """See fused.compare. In Triton: only three numbers of each patch are written."""
    R, N, D = features.shape
    states = states.float().contiguous()
    made = features.new_empty((R, 3, N), dtype=torch.float32)
    peak = features.new_zeros((R,), dtype=torch.float32)
    _kernel[(-(-N // PATCHES), R)](
        features,
        states,
        features if keep is None else keep.contiguous().view(torch.uint8),
        made,
        peak,
        N,
        D,
        *features.stride(),
        2 * D if len(states) > 1 else 0,
        1 / temperature,
        EPS,
        KEEP=keep is not None,
        PATCHES=PATCHES,
        NUMBERS=NUMBERS,
    )
    return Similarities(made[:, :2], made[:, 2], peak)


@Kernel
def _kernel(  # type: ignore[no-untyped-def]
    features,
    states,
    keep,
    made,
    peak,
    N,
    D,
    stride_r,
    stride_n,
    stride_d,
    stride_states,
    sharpness,
    eps,
    KEEP: tl.constexpr,
    PATCHES: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    r = tl.program_id(1).to(tl.int64)
    n = tl.program_id(0) * PATCHES + tl.arange(0, PATCHES)
    inside = n < N
    square = tl.zeros((PATCHES, NUMBERS), tl.float32)
    normal = tl.zeros((PATCHES, NUMBERS), tl.float32)
    anomalous = tl.zeros((PATCHES, NUMBERS), tl.float32)
    for start in range(0, D, NUMBERS):
        d = start + tl.arange(0, NUMBERS)
        there = d < D
        place = features + r * stride_r + n[:, None].to(tl.int64) * stride_n + d[None, :] * stride_d
        x = tl.load(place, mask=inside[:, None] & there[None, :], other=0.0).to(tl.float32)
        state = states + r * stride_states + d
        square += x * x
        normal += x * tl.load(state, mask=there, other=0.0)[None, :]
        anomalous += x * tl.load(state + D, mask=there, other=0.0)[None, :]
    length = tl.maximum(tl.sqrt(tl.sum(square, axis=1)), eps)
    to_normal = tl.sum(normal, axis=1) / length
    to_anomalous = tl.sum(anomalous, axis=1) / length
    probability = 1 / (1 + tl.exp((to_normal - to_anomalous) * sharpness))
    place = made + r * 3 * N + n
    tl.store(place, to_normal, mask=inside)
    tl.store(place + N, to_anomalous, mask=inside)
    tl.store(place + 2 * N, probability, mask=inside)
    counts = inside
    if KEEP:
        counts = inside & (tl.load(keep + r * N + n, mask=inside, other=0) != 0)
    tl.atomic_max(peak + r, tl.max(tl.where(counts, probability, 0.0), axis=0))
