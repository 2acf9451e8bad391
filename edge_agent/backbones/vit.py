"""The plain pre-norm vision transformer, with the names of parameters that timm and the official TIPS files give it.

The tests compare it with timm's, which is not used because importing timm imports torchvision and torch's compiler: half of
the agent's time to start and a quarter of its memory. Left out: everything that TIPS does not use.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head softmax attention; queries, keys and values come from one projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, L, D)."""
        B, L, D = x.shape
        q, k, v = self.qkv(x).view(B, L, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # each (B, h, L, d)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, L, D))

    def of_values(self, x: Tensor) -> Tensor:
        """Value-value attention, as in CoPS: values in place of queries and keys. x: (B, L, D)."""
        B, L, D = x.shape
        v = self.qkv(x)[..., 2 * D :].view(B, L, self.num_heads, -1).transpose(1, 2)  # (B, h, L, d)
        return self.proj(F.scaled_dot_product_attention(v, v, v).transpose(1, 2).reshape(B, L, D))


class Mlp(nn.Module):
    """Two layers with GELU between them, or SwiGLU: half of the first layer's outputs gate the other half."""

    def __init__(self, width: int, hidden: int, swiglu: bool) -> None:
        """Create it with random weights.

        Args:
            width: features of a token.
            hidden: features inside the MLP.
            swiglu: SwiGLU in place of GELU in the MLP.
        """
        super().__init__()
        self.swiglu = swiglu
        self.fc1 = nn.Linear(width, 2 * hidden if swiglu else hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        if self.swiglu:
            gate, x = x.chunk(2, dim=-1)
            return self.fc2(F.silu(gate) * x)
        return self.fc2(F.gelu(x))


class LayerScale(nn.Module):
    """One learned factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Attention, then the MLP: each normalises, scales its output, and adds it to the tokens."""

    def __init__(self, width: int, heads: int, hidden: int, swiglu: bool) -> None:
        """Create it with random weights.

        Args:
            width: features of a token.
            heads: of attention; they divide `width`.
            hidden: features inside the MLP.
            swiglu: SwiGLU in place of GELU in the MLP.
        """
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, hidden, swiglu)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, L, D)."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Vit(nn.Module):
    """The parts of a tower, initialised as timm does; tips.py puts the tokens in order."""

    def __init__(self, width: int, depth: int, heads: int, hidden: int, grid: int, swiglu: bool) -> None:
        """Create it with random weights.

        Args:
            width: features of a token.
            depth: blocks.
            heads: of attention; they divide `width`.
            hidden: features inside the MLP.
            grid: side of the square of positions.
            swiglu: SwiGLU in place of GELU in the MLP.
        """
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.reg_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, grid * grid, width))
        self.blocks = nn.ModuleList(Block(width, heads, hidden, swiglu) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        init_normal(self.cls_token, 1e-6)
        init_normal(self.reg_token, 1e-6)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def layers(self) -> Iterator[Block]:
        """Yield the blocks, from the first to the last."""
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block


def init_normal(parameter: Tensor, std: float) -> None:
    """Initialise as nn.init.normal_ does; skip the meta device, where torch would import its compiler only to do nothing."""
    if not parameter.is_meta:
        nn.init.normal_(parameter, std=std)
