"""Finds how far each patch lies from the nearest one of a bank, in one pass over the bank: products, distances, smallest one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from edge_agent.kernels.kernel import Kernel
from edge_agent.kernels.proof import usable

QUERIES, ROWS, NUMBERS = 64, 64, 32  # tile of a program: patches, rows of the bank, and numbers of each at once
CHUNK = 1024  # rows of the bank that the twin compares at once: the products of more no longer fit a core's cache
tl: Any = None  # triton.language, once there is a kernel to build


def nearest(patches: Tensor, bank: Tensor) -> Tensor:
    """Compute the Euclidean distance (N,) fp32 of patches (N, D) to the nearest row of a bank (M, D), M at least 1.

    Sums are fp32 whatever the precision of the bank is.
    """
    return kernel(patches, bank) if usable(patches.device) else reference(patches, bank)


def reference(patches: Tensor, bank: Tensor) -> Tensor:
    """See nearest. In plain torch."""
    patches = patches.float()
    smallest = patches.new_full(
        (patches.shape[0],), float("inf")
    )  # len() would fix an exported graph to one size of batch
    for start in range(0, len(bank), CHUNK):
        rows = bank[start : start + CHUNK].float()
        distances = torch.addmm(rows.square().sum(dim=1), patches, rows.mT, alpha=-2)  # less the patches' own squares
        smallest = torch.minimum(smallest, distances.amin(dim=1))
    return (smallest + patches.square().sum(dim=1)).clamp(min=0).sqrt()


def kernel(patches: Tensor, bank: Tensor) -> Tensor:
    """See nearest. In Triton: of all distances only the smallest ones are written."""
    N, D = patches.shape
    patches, bank = patches.contiguous().to(bank.dtype), bank.contiguous()
    found = torch.empty((N,), dtype=torch.float32, device=patches.device)
    _kernel[(-(-N // QUERIES),)](patches, bank, found, N, len(bank), D, QUERIES=QUERIES, ROWS=ROWS, NUMBERS=NUMBERS)
    return found


@Kernel
def _kernel(  # type: ignore[no-untyped-def]
    patches,
    bank,
    found,
    N,
    M,
    D,
    QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
    NUMBERS: tl.constexpr,
):
    n = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    own = tl.zeros((QUERIES,), tl.float32)
    for first in range(0, D, NUMBERS):
        d = first + tl.arange(0, NUMBERS)
        place = patches + n[:, None].to(tl.int64) * D + d[None, :]
        x = tl.load(place, mask=(n < N)[:, None] & (d < D)[None, :], other=0.0).to(tl.float32)
        own += tl.sum(x * x, axis=1)
    smallest = tl.full((QUERIES,), float("inf"), tl.float32)
    for start in range(0, M, ROWS):
        m = start + tl.arange(0, ROWS)
        products = tl.zeros((QUERIES, ROWS), tl.float32)
        square = tl.zeros((ROWS,), tl.float32)
        for first in range(0, D, NUMBERS):
            d = first + tl.arange(0, NUMBERS)
            there = d < D
            place = patches + n[:, None].to(tl.int64) * D + d[None, :]
            x = tl.load(place, mask=(n < N)[:, None] & there[None, :], other=0.0)
            place = bank + m[:, None].to(tl.int64) * D + d[None, :]
            y = tl.load(place, mask=(m < M)[:, None] & there[None, :], other=0.0)
            products += tl.dot(x, tl.trans(y), input_precision="ieee")
            square += tl.sum(y.to(tl.float32) * y.to(tl.float32), axis=1)
        distances = tl.where((m < M)[None, :], square[None, :] - 2 * products, float("inf"))
        smallest = tl.minimum(smallest, tl.min(distances, axis=1))
    tl.store(found + n, tl.sqrt(tl.maximum(smallest + own, 0.0)), mask=n < N)
