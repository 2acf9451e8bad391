"""CLIP's ViTs on open_clip's modules, with the outputs that ViP2-CLIP and CoPS read: layers, value stream, prompts.

Only the embedding of inputs and the choice of outputs are written here. Left out: CLIPs whose vision tower is no plain ViT
or whose text tower is not CLIP's own: see require_supported.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.backbone import Activation, ImageFeatures, Positions, Preprocessing
from edge_agent.backbones.clip.names import Colour
from edge_agent.backbones.windows import encode_each
from edge_agent.errors import CheckpointError

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

# open_clip's OPENAI_DATASET_MEAN and _STD; open_clip itself takes seconds to import.
OPENAI_MEAN: Colour = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD: Colour = (0.26862954, 0.26130258, 0.27577711)


class Clip(nn.Module):
    """A CLIP backbone (see Backbone)."""

    model: Any  # open_clip types its towers as plain modules
    mean: Tensor
    std: Tensor
    ends: Tensor

    def __init__(
        self,
        model: nn.Module,
        tokenizer: SimpleTokenizer,
        name: str,
        sha256: str = "",
        mean: Colour = OPENAI_MEAN,
        std: Colour = OPENAI_STD,
    ) -> None:
        """Wrap an open_clip model.

        Args:
            model: open_clip's CLIP.
            tokenizer: open_clip's.
            name: as in config.yaml.
            sha256: of its weight file, "" if it was never saved.
            mean: of R, G, B in [0, 1], that pictures are normalised with; default OpenAI's.
            std: the same.

        Raises CheckpointError for an open_clip model of another architecture.
        """
        super().__init__()
        require_supported(model, name)
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.sha256 = sha256
        self.temperature = math.exp(-float(self.model.logit_scale.detach()))
        self.preprocessing = Preprocessing("bicubic", True, mean, std)
        self.resizing: Positions = "bilinear"  # of positions
        ends = torch.tensor([tokenizer.sot_token_id, tokenizer.eot_token_id])
        self.register_buffer("ends", ends, persistent=False)  # on the device: a CUDA graph cannot fetch it
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @property
    def width(self) -> int:
        """Length D of image and text features, after both projections."""
        return self.model.visual.proj.shape[1]

    @property
    def depth(self) -> int:
        """Blocks of the vision tower."""
        return len(self.model.visual.transformer.resblocks)

    @property
    def text_width(self) -> int:
        """Length W of a token of the text tower; it may differ from the features' length."""
        return self.model.token_embedding.weight.shape[1]

    @property
    def text_depth(self) -> int:
        """Blocks of the text tower."""
        return len(self.model.transformer.resblocks)

    @property
    def context(self) -> int:
        """How many tokens the text tower has positions for, with begin and end."""
        return len(self.model.positional_embedding)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels; the sides of pictures must be multiples of it."""
        return self.model.visual.patch_size[0]

    @property
    def image_size(self) -> int:
        """The side in pixels that the positions were trained for."""
        return self.model.visual.image_size[0]

    @property
    def device(self) -> torch.device:
        """Where the weights are; pictures must be on the same device."""
        return self.model.logit_scale.device

    @property
    def vision_tower(self) -> nn.Module:
        """See Backbone."""
        return self.model.visual

    @property
    def tower_width(self) -> int:
        """See Backbone."""
        return self.model.visual.positional_embedding.shape[1]

    @property
    def activation(self) -> Activation:
        """See Backbone."""
        return "gelu" if isinstance(self.model.visual.transformer.resblocks[0].mlp.gelu, nn.GELU) else "quick_gelu"

    def run_as(self, activation: Activation, positions: Positions) -> Clip:
        """See Backbone."""
        if (activation, positions) == (self.activation, self.resizing):
            return self
        from open_clip.transformer import QuickGELU

        shared = [self.tokenizer, *self.parameters(), *self.buffers()]
        other = copy.deepcopy(self, {id(one): one for one in shared})
        other.resizing = positions
        for tower in (other.model.visual.transformer, other.model.transformer):
            for block in tower.resblocks:
                block.mlp.gelu = nn.GELU() if activation == "gelu" else QuickGELU()
        return other

    def pictures(self, images: Sequence[np.ndarray], size: int) -> Tensor:
        """See Backbone. Bicubic with antialias, aspect not kept, rounded to whole levels as PIL does, then normalised."""
        batch = [_bicubic(image, size, self.device) for image in images]
        return (torch.cat(batch) / 255 - self.mean) / self.std

    def encode_image(
        self,
        x: Tensor,
        layers: Sequence[int] = (),
        *,
        values: int = 0,
        joined: bool = False,
        raw: Sequence[int] = (),
    ) -> ImageFeatures:
        """See Backbone. Patches after ln_post and projection, but the class token after the projection alone.

        Both papers' code does so, and their published prompts depend on it.
        """
        visual = self.model.visual
        tokens, grid = self._embed(x)
        kept = {}
        outputs = {}
        stream = None
        for number, block in enumerate(visual.transformer.resblocks, start=1):
            if number == values:
                stream = tokens
            if stream is not None:
                stream = stream + block.ls_1(_self_attention(block.attn, block.ln_1(tokens), joined))
            tokens = block(tokens)
            if number in layers:
                kept[number] = self._patches(tokens if stream is None else stream)
            if number in raw:
                outputs[number] = tokens
        by_values = None if stream is None else self._patches(stream)
        whole = self._whole(tokens)
        return ImageFeatures(tokens[:, :1] @ visual.proj, self._patches(tokens), grid, kept, by_values, outputs, whole)

    def encode_appended(self, x: Tensor, appended: Tensor, raw: Sequence[int]) -> ImageFeatures:
        """See Backbone."""
        visual = self.model.visual
        tokens, grid = self._embed(x)
        own = tokens.shape[1]
        outputs = {}
        for number, block in enumerate(visual.transformer.resblocks):
            if number < len(appended):
                tokens = torch.cat([tokens[:, :own], appended[number].to(tokens.dtype)], dim=1)
            tokens = block(tokens)
            if number + 1 in raw:
                outputs[number + 1] = tokens[:, :own]
        tokens = tokens[:, :own]
        whole = self._whole(tokens)
        return ImageFeatures(tokens[:, :1] @ visual.proj, self._patches(tokens), grid, raw=outputs, aligned=whole)

    def gather_last(self, tokens: Tensor, weights: Tensor) -> Tensor:
        """See Backbone."""
        block = self.model.visual.transformer.resblocks[-1]
        attention = block.attn
        tokens = tokens + block.ls_1(block.attention(block.ln_1(tokens)))
        width = tokens.shape[2]
        weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
        values = F.linear(block.ln_1(tokens[:, 1:]), weight, bias)
        # The same weights for every head, so that heads need not be told apart.
        return self.project(attention.out_proj(weights @ values))

    def project(self, tokens: Tensor) -> Tensor:
        """See Backbone."""
        return self.model.visual.ln_post(tokens) @ self.model.visual.proj

    def encode_windows(self, x: Tensor, side: int) -> Tensor:
        """See Backbone."""
        tokens, grid = self._embed(x)
        first = tokens[:1, :1]  # the same for every picture

        def encode(patches: Tensor) -> Tensor:
            own = torch.cat([first.expand(patches.shape[0], -1, -1), patches], dim=1)
            for block in self.model.visual.transformer.resblocks:
                own = block(own)
            return self._whole(own)

        return encode_each(tokens[:, 1:], grid, side, encode)

    def encode_text(self, sentences: Sequence[str], prompt: Tensor | None = None) -> Tensor:
        """See Backbone. prompt: (S, W), put between begin and words. Words beyond the tower's positions are cut off."""
        room = self.context - 2 - (0 if prompt is None else len(prompt))
        _require_room(room, self.context)
        words = [self.tokenizer.encode(sentence)[:room] for sentence in sentences]
        begin, end = self.tokenizer.sot_token_id, self.tokenizer.eot_token_id
        lengths = torch.tensor([len(own) + 1 for own in words])  # position of the end token
        ids = torch.zeros(len(words), int(lengths.max()) + 1, dtype=torch.long)  # (B, L); nothing reads the padding
        for row, own in zip(ids, words, strict=True):
            row[: len(own) + 2] = torch.tensor([begin, *own, end])
        x = self.model.token_embedding(ids.to(self.device))  # (B, L, W)
        if prompt is not None:
            learned = prompt.to(x.dtype).expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], learned, x[:, 1:]], dim=1)
            lengths = lengths + len(prompt)
        return self._encode_tokens(x, lengths.to(self.device))

    def embed_words(self, words: str) -> Tensor:
        """See Backbone."""
        ids = torch.tensor(self.tokenizer.encode(words), dtype=torch.long, device=self.device)
        return self.model.token_embedding(ids)

    def encode_prompts(
        self,
        prompts: Tensor,
        deep: Tensor | None = None,
        *,
        begun: bool = False,
        inserted: Tensor | None = None,
        norm: nn.Module | None = None,
    ) -> Tensor:
        """See Backbone. Begin and end are added, and the feature is the end token's; deep: replaces the n tokens after begin."""
        _require_room(self.context - 2 + begun - prompts.shape[1], self.context)
        begin, end = (
            self.model.token_embedding(self.ends).to(prompts.dtype).expand(prompts.shape[0], -1, -1).chunk(2, dim=1)
        )
        x = torch.cat([prompts, end] if begun else [begin, prompts, end], dim=1)
        ends = torch.full((x.shape[0],), x.shape[1] - 1, device=x.device)
        return self._encode_tokens(x, ends, deep, inserted, norm)

    def _embed(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embed pictures: the first block's tokens (B, 1 + N, width of the tower), class token first, and their grid (h, w)."""
        visual = self.model.visual
        tokens = visual.conv1(x)  # (B, C, h, w)
        grid = (tokens.shape[2], tokens.shape[3])
        tokens = tokens.flatten(2).transpose(1, 2)  # (B, N, C)
        first = visual.class_embedding.to(tokens.dtype).expand(x.shape[0], 1, -1)
        tokens = torch.cat([first, tokens], dim=1) + self.positions(grid).to(tokens.dtype)
        return visual.ln_pre(tokens), grid

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the positional embedding (1 + N, C) for h x w patches: bilinear without antialias, unless `run_as` said otherwise."""
        visual = self.model.visual
        positions = visual.positional_embedding
        if grid == visual.grid_size:
            return positions
        square = positions[1:].reshape(1, *visual.grid_size, -1).permute(0, 3, 1, 2)  # (1, C, g, g)
        mode, _, antialias = self.resizing.partition(" ")
        resized = F.interpolate(square.float(), size=grid, mode=mode, antialias=bool(antialias), align_corners=False)
        return torch.cat([positions[:1], resized[0].flatten(1).T.to(positions.dtype)])

    def fix_grid(self, grid: tuple[int, int]) -> None:
        """See Backbone."""
        visual = self.model.visual
        visual.positional_embedding = nn.Parameter(self.positions(grid).clone(), requires_grad=False)
        visual.grid_size = grid

    def _whole(self, tokens: Tensor) -> Tensor:
        return self.project(tokens[:, 0])  # (B, D)

    def _patches(self, tokens: Tensor) -> Tensor:
        return self.project(tokens[:, 1:])  # (B, N, D)

    def _encode_tokens(
        self,
        x: Tensor,
        ends: Tensor,
        deep: Tensor | None = None,
        inserted: Tensor | None = None,
        norm: nn.Module | None = None,
    ) -> Tensor:
        """Encode tokens to (B, D), not normalised. The tower is causal, so x may end at the last end token.

        Args:
            x: (B, L, W), without positions.
            ends: (B,) int64, the positions of the end tokens, whose features are returned.
            deep, inserted, norm: see Backbone.encode_prompts.
        """
        x = x + self.model.positional_embedding[: x.shape[1]].to(x.dtype)
        if inserted is not None:
            more = inserted.shape[1]
            x = torch.cat([x[:, :1], x.new_zeros(x.shape[0], more, x.shape[2]), x[:, 1:]], dim=1)
            ends = ends + more
        length = x.shape[1]
        mask = self.model.attn_mask[:length, :length]
        for number, block in enumerate(self.model.transformer.resblocks):
            if deep is not None and 0 < number <= len(deep):
                own = deep[number - 1].to(x.dtype).expand(x.shape[0], -1, -1)  # (B, n, W)
                x = torch.cat([x[:, :1], own, x[:, 1 + own.shape[1] :]], dim=1)
            if inserted is not None:
                own = inserted[number].to(x.dtype).expand(x.shape[0], -1, -1)
                x = torch.cat([x[:, :1], own, x[:, 1 + own.shape[1] :]], dim=1)
            x = block(x, attn_mask=mask)
        x = x[torch.arange(x.shape[0], device=x.device), ends]  # (B, W)
        x = self.model.ln_final(x if norm is None else norm(x))
        projection = self.model.text_projection
        return projection(x) if isinstance(projection, nn.Module) else x @ projection


def causal_mask(length: int) -> Tensor:
    """Return (L, L), added to attention's logits so that each token attends to itself and earlier ones alone."""
    return torch.full((length, length), -torch.inf).triu(1)


def require_supported(model: nn.Module, name: str) -> None:
    """Raise CheckpointError, saying why, for an open_clip model that is not a ViT with CLIP's causal text tower."""
    from open_clip.model import CLIP
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    visual = getattr(model, "visual", None)
    if not isinstance(visual, VisionTransformer):
        raise CheckpointError(f"{name}: its vision tower is a {type(visual).__name__}, not CLIP's ViT; {_REMEDY}")
    if visual.attn_pool is not None or visual.pool_type != "tok" or visual.grid_size[0] != visual.grid_size[1]:
        raise CheckpointError(f"{name}: its vision tower has no class token over a square grid of patches; {_REMEDY}")
    plain = isinstance(model, CLIP) and model.attn_mask is not None and model.text_pool_type == "argmax"
    if not plain or model.text_projection is None:
        raise CheckpointError(f"{name}: its text tower is not CLIP's own causal one; {_REMEDY}")
    blocks = [*visual.transformer.resblocks, *model.transformer.resblocks]  # type: ignore[union-attr,misc]
    if not all(type(block) is ResidualAttentionBlock for block in blocks):
        raise CheckpointError(f"{name}: its blocks are not CLIP's own; {_REMEDY}")


_REMEDY = "take one such as ViT-L-14-336 or ViT-B-16"


def _self_attention(attention: nn.MultiheadAttention, x: Tensor, joined: bool) -> Tensor:
    """Attention of values to values, as in CoPS: in place of queries and keys.

    Args:
        attention: of the block.
        x: (B, L, C) after the block's first norm.
        joined: add the weights of queries to queries and of keys to keys, as in Crane.
    """
    B, L, C = x.shape
    unused = 0 if joined else 2 * C
    weight, bias = attention.in_proj_weight[unused:], attention.in_proj_bias[unused:]
    parts = F.linear(x, weight, bias).split(C, dim=2)
    *others, v = (part.view(B, L, attention.num_heads, -1).transpose(1, 2) for part in parts)  # each (B, h, L, d)
    attended = F.scaled_dot_product_attention(v, v, v)
    for other in others:
        attended = attended + F.scaled_dot_product_attention(other, other, v)
    return attention.out_proj(attended.transpose(1, 2).reshape(B, L, C))


def _bicubic(image: np.ndarray, size: int, device: torch.device) -> Tensor:
    """Resize (H, W, 3) uint8 to (1, 3, size, size) fp32 in [0, 255]."""
    x = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1).unsqueeze(0)
    if x.shape[2:] == (size, size):
        return x.float()
    if device.type != "cpu":  # only the CPU resizes bytes, and faster than floats
        x = x.float()
    x = F.interpolate(x, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return x.float().round().clamp(0, 255)


def _require_room(room: int, context: int) -> None:
    if room < 0:
        raise CheckpointError(
            f"the prompts are {-room} tokens too long for a text tower of {context}: fit with fewer learned tokens"
        )
