"""DINOv2 (Oquab et al., arXiv 2304.07193): a ViT trained without labels, whose patches tell parts of things apart."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.vision_only import Trunk
from edge_agent.backbones.vit import Block

PATCH = 14
HEAD = 64  # features of an attention head, in every size


class PatchEmbedding(nn.Module):
    """Projects each patch of a picture to a token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, D, h, w) of x (B, 3, H, W)."""
        return self.proj(x)


class Dino(Trunk):
    """A ViT with a class token that has a position of its own. Parameters have the names that timm gives them."""

    def __init__(self, width: int, depth: int, grid: int = 37, registers: int = 0) -> None:
        """Make one with random weights.

        Args:
            width: features of a token.
            depth: blocks.
            grid: side of the square of positions; default that of 518 pixels.
            registers: further tokens behind the class token (Darcet et al., arXiv 2309.16588); with them patches alone have
                positions. Default none.
        """
        super().__init__()
        self.width, self.depth, self.grid = width, depth, (grid, grid)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.placed = 0 if registers else 1  # positions before those of the patches
        self.registers = registers
        if registers:
            self.reg_token = nn.Parameter(torch.zeros(1, registers, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.placed + grid * grid, width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.patch_embed = PatchEmbedding(width)
        self.blocks = nn.ModuleList(Block(width, width // HEAD, 4 * width, swiglu=False) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    @property
    def stride(self) -> int:
        """See Trunk."""
        return PATCH

    @property
    def channels(self) -> list[int]:
        """See Trunk."""
        return [self.width] * self.depth

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the positions for a grid of h x w patches, (1, 1 + h w, D), or with registers (1, h w, D).

        They are resized bicubically with antialias, as timm does.
        """
        if grid == self.grid:
            return self.pos_embed
        square = self.pos_embed[:, self.placed :].unflatten(1, self.grid).permute(0, 3, 1, 2)
        resized = F.interpolate(square.float(), size=grid, mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([self.pos_embed[:, : self.placed], resized.flatten(2).transpose(1, 2).to(square.dtype)], dim=1)

    def fix_grid(self, grid: tuple[int, int]) -> None:
        """See Trunk."""
        self.pos_embed = nn.Parameter(self.positions(grid), requires_grad=False)
        self.grid = grid

    def forward(self, x: Tensor) -> list[Tensor]:
        """See Trunk. All outputs are taken after the last LayerNorm."""
        patches = self.patch_embed(x)
        grid = (patches.shape[2], patches.shape[3])
        tokens, first = patches.flatten(2).transpose(1, 2), self.cls_token.expand(len(x), -1, -1)
        if self.registers:
            tokens = torch.cat([first, self.reg_token.expand(len(x), -1, -1), tokens + self.positions(grid)], dim=1)
        else:
            tokens = torch.cat([first, tokens], dim=1) + self.positions(grid)
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(self.norm(tokens)[:, 1 + self.registers :].transpose(1, 2).unflatten(2, grid))
        return outputs

    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill in timm's state dict. Raises KeyError for a tensor that is not there, ValueError where a shape differs."""
        wanted = self.state_dict()
        found = {name: tensors[name] for name in wanted}
        for name, own in wanted.items():
            if found[name].shape != own.shape:
                raise ValueError(f"{name} is {tuple(found[name].shape)}, not {tuple(own.shape)}")
        self.load_state_dict(found)
