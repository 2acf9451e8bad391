"""TIPS vision and text towers from the official .npz files (google-deepmind/tips, v1 and v2), and small ones of our own.

The vision tower is a plain transformer (vit.py); the embedding of its inputs (second class token, resized positions) is
written here. Left out: decoders, and training with masked patches.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.appearance import Appearance
from edge_agent.backbones.backbone import ImageFeatures, Preprocessing, WithoutRawOutputs, refuse
from edge_agent.backbones.contrast import Contrast
from edge_agent.backbones.resize import pictures_to_tensor
from edge_agent.backbones.tips.files import TEXT, TOKENIZER, VISION, BackboneFiles
from edge_agent.backbones.tokenizer import Tokenizer
from edge_agent.backbones.vit import Vit, init_normal
from edge_agent.backbones.weights.arrays import read_arrays
from edge_agent.backbones.windows import encode_each
from edge_agent.errors import CheckpointError

Arrays = Mapping[str, np.ndarray]
TEMPERATURES = ("temperature", "temperature_contrastive")  # v1's name, v2's name


@dataclass(frozen=True, slots=True)
class VisionShape:
    """The architecture of a vision tower, as its weights' shapes give it.

    stem: widths of a convolutional stem, () for none. compared: blocks, counted from 0, before which patches are compared.
    contrast: whether local contrast is added to the input patches. appearance: the block, counted from 1, after which patches
    are compared by appearance, and the length of their descriptors; None for neither.
    """

    width: int
    depth: int
    hidden: int
    grid: int
    patch: int = 14
    swiglu: bool = False
    stem: tuple[int, ...] = ()
    compared: tuple[int, ...] = ()
    contrast: bool = False
    appearance: tuple[int, int] | None = None

    @property
    def heads(self) -> int:
        return 16 if self.width == 1152 else self.width // 64  # So400m's heads are 72 wide, all others' 64


@dataclass(frozen=True, slots=True)
class TextShape:
    """The architecture of a text tower, as its weights' shapes give it."""

    width: int
    depth: int
    hidden: int
    vocabulary: int

    @property
    def heads(self) -> int:
        return 16 if self.width == 1152 else self.width // 64


class ConvStem(nn.Module):
    """3x3 convolutions and ReLU in place of the patch projection: a widening one halves the resolution, another one is residual.

    ReLU and not GELU as in the blocks: at this resolution GELU would cost a tenth of the whole tower on a CPU.
    """

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=1 if before == after else 2, padding=1)
            for before, after in zip((3, *widths), widths, strict=False)
        )
        self.proj = nn.Conv2d(widths[-1], width, 1)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            y = F.relu(conv(x), inplace=True)
            x = x + y if conv.stride == (1, 1) else y
        return self.proj(x)  # (B, D, h, w)

    @staticmethod
    def patch(widths: Sequence[int]) -> int:
        """Return the side of a patch in pixels for these widths of the stem."""
        return 2 ** sum(before != after for before, after in zip((3, *widths), widths, strict=False))


class Comparison(nn.Module):
    """Adds to each patch how it differs from the others of its picture. Only the embedded backbone has it, no published TIPS.

    In each of a few small spaces, in units of the picture's own spread: the density of patches around this one (Gaussian
    kernels of three widths), its distance from their mean and from its neighbours' mean, and the spread itself.
    """

    HEADS, WIDTH, FIGURES = 4, 32, 6

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.proj = nn.Linear(width, self.HEADS * self.WIDTH)
        self.mix = nn.Linear(self.HEADS * self.FIGURES, 64)
        self.out = nn.Linear(64, width)

    def forward(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return what is to be added to patches x (B, N, D). grid: (h, w) with h * w = N."""
        B, N, _ = x.shape
        q = self.proj(self.norm(x)).float().view(B, N, self.HEADS, self.WIDTH).transpose(1, 2)  # (B, H, N, d)
        q = q.contiguous()  # saves a third of the time of what follows, pooling most
        q = q - q.mean(dim=2, keepdim=True)
        spread = q.square().sum(dim=3).mean(dim=2, keepdim=True) + 0.01  # (B, H, 1)
        q = q / spread.sqrt().unsqueeze(3)
        square = q.square().sum(dim=3)  # (B, H, N)
        near = (
            (q @ q.transpose(2, 3)).mul_(2).sub_(square.unsqueeze(3)).sub_(square.unsqueeze(2))
        )  # (B, H, N, N) distances, negative
        kernel = near.clamp_(max=0).div_(4).exp()
        sparse = [-torch.log(kernel.mean(dim=3))]  # a patch is near itself, so it is never log 0
        for _ in range(2):
            kernel = kernel.square().square()
            sparse.append(-torch.log(kernel.mean(dim=3)))
        planes = q.transpose(2, 3).reshape(B * self.HEADS, self.WIDTH, *grid)
        around = F.avg_pool2d(planes, 5, stride=1, padding=2, count_include_pad=False)
        local = (planes - around).square().sum(dim=1).view(B, self.HEADS, N)
        figures = torch.stack(
            [*sparse, torch.log1p(square), torch.log1p(local), torch.log(spread).expand_as(square)], dim=3
        )  # (B, H, N, 6)
        return self.out(F.gelu(self.mix(figures.transpose(1, 2).flatten(2))))


class VisionTower(nn.Module):
    """The ViT with a second class token. Sequence: [class token 1, class token 2, patches]; the second has no position."""

    stem: nn.Module

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.shape = shape
        self.vit = Vit(shape.width, shape.depth, shape.heads, shape.hidden, shape.grid, shape.swiglu)
        self.stem = (
            ConvStem(shape.stem, shape.width)
            if shape.stem
            else nn.Conv2d(3, shape.width, shape.patch, stride=shape.patch)
        )
        self.comparisons = nn.ModuleDict({str(block): Comparison(shape.width) for block in shape.compared})
        self.contrast = Contrast(shape.width) if shape.contrast else None
        appearance = [shape.appearance] if shape.appearance else []
        self.appearance = nn.ModuleDict({str(block): Appearance(shape.width, length) for block, length in appearance})

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the positional embedding (1, N, D) for h x w patches: bilinear with antialias, as the authors resize."""
        native = self.shape.grid
        positions = self.vit.pos_embed
        if grid == (native, native):
            return positions
        square = positions.reshape(1, native, native, -1).permute(0, 3, 1, 2)  # (1, D, g, g)
        resized = F.interpolate(square.float(), size=grid, mode="bilinear", antialias=True, align_corners=False)
        return resized.flatten(2).transpose(1, 2).to(positions.dtype)

    def forward(self, x: Tensor, layers: Sequence[int] = (), *, values: int = 0) -> ImageFeatures:
        """See Backbone.encode_image. x: (B, 3, H, W) in [0, 1]. All features are taken after the final LayerNorm."""
        tokens, grid, contrast = self._embed(x)
        kept = {}
        dissimilarity = None
        stream = None
        for number, block in enumerate(self.vit.layers(), start=1):
            if number == values:
                stream = tokens
            tokens = self._compared(tokens, grid, number)
            if stream is not None:
                stream = stream + block.ls1(block.attn.of_values(block.norm1(tokens)))
            tokens = block(tokens)
            if number in layers:
                kept[number] = self.vit.norm(tokens if stream is None else stream)[:, 2:]
            if str(number) in self.appearance:
                dissimilarity = self.appearance[str(number)](self.vit.norm(tokens)[:, 2:])
        tokens = self.vit.norm(tokens)
        by_values = None if stream is None else self.vit.norm(stream)[:, 2:]
        return ImageFeatures(
            tokens[:, :2], tokens[:, 2:], grid, kept, by_values, dissimilarity=dissimilarity, contrast=contrast
        )

    def windows(self, x: Tensor, side: int) -> Tensor:
        """See Backbone.encode_windows. Towers that compare patches do so within each window."""
        tokens, grid, _ = self._embed(x)
        prefix = tokens[:1, :2]  # the same for every picture

        def encode(patches: Tensor) -> Tensor:
            own = torch.cat([prefix.expand(patches.shape[0], -1, -1), patches], dim=1)
            for number, block in enumerate(self.vit.layers(), start=1):
                own = block(self._compared(own, (side, side), number))
            return self.vit.norm(own[:, 1])

        return encode_each(tokens[:, 2:], grid, side, encode)

    def _embed(self, x: Tensor) -> tuple[Tensor, tuple[int, int], Tensor | None]:
        """Embed pictures: the first block's tokens (B, 2 + N, D), class tokens first, their grid, and ImageFeatures.contrast."""
        tokens = self.stem(x)  # (B, D, h, w)
        grid = (tokens.shape[2], tokens.shape[3])
        tokens = tokens.flatten(2).transpose(1, 2)  # (B, N, D)
        tokens = tokens + self.positions(grid)
        contrast = None
        if self.contrast is not None:
            more, contrast = self.contrast(x, grid)
            tokens = tokens + more.to(tokens.dtype)
        prefix = torch.cat([self.vit.cls_token, self.vit.reg_token], dim=1).expand(x.shape[0], -1, -1)
        tokens = torch.cat([prefix.to(tokens.dtype), tokens], dim=1)  # (B, 2 + N, D)
        return tokens, grid, contrast

    def _compared(self, tokens: Tensor, grid: tuple[int, int], number: int) -> Tensor:
        """Return the input tokens of a block, counted from 1, with the comparison added where there is one before it."""
        if number - 1 not in self.shape.compared:
            return tokens
        patches = tokens[:, 2:]
        more = self.comparisons[str(number - 1)](patches, grid).to(tokens.dtype)
        return torch.cat([tokens[:, :2], patches + more], dim=1)


class Mlp(nn.Module):
    """The text tower's two layers with ReLU. Padding needs no mask here: its results are never used."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.relu(self.c_fc(x)))


class TextBlock(nn.Module):
    """Pre-LN attention over the unpadded tokens, then the MLP."""

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(shape.width, shape.heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(shape.width, eps=1e-5)
        self.mlp = Mlp(shape.width, shape.hidden)
        self.ln_2 = nn.LayerNorm(shape.width, eps=1e-5)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, key_padding_mask=padding, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TextTower(nn.Module):
    """Encodes sentences: the mean over the unpadded tokens of a transformer with sinusoidal positions."""

    transformer: Any  # only there to give the blocks the published files' names

    def __init__(self, shape: TextShape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(shape.vocabulary, shape.width), freeze=False)
        init_normal(self.token_embedding.weight, 1.0)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(TextBlock(shape) for _ in range(shape.depth))
        self.ln_final = nn.LayerNorm(shape.width, eps=1e-5)

    def forward(self, ids: Tensor, paddings: Tensor, prompt: Tensor | None = None) -> Tensor:
        """Encode sentences to (B, D), not normalised.

        With a prompt the sequence is still at most L tokens long: what does not fit is cut off at the end. Columns that are
        padding in every sentence are not computed; the result is the same.

        Args:
            ids: (B, L) int64.
            paddings: (B, L), 1 where padded.
            prompt: (S, D), put in front of every sentence's tokens.
        """
        x = self.token_embedding(ids) * self.shape.width**0.5  # (B, L, D)
        padding = paddings.bool()
        if prompt is not None:
            length = x.shape[1]
            x = torch.cat([prompt.to(x.dtype).expand(len(x), -1, -1), x], dim=1)[:, :length]
            padding = torch.cat([padding.new_zeros(len(x), len(prompt)), padding], dim=1)[:, :length]
        used = max(int((~padding).any(dim=0).sum()), 1)
        x, padding = x[:, :used], padding[:, :used]
        return self.encode(x, padding)

    def encode(self, x: Tensor, padding: Tensor, deep: Tensor | None = None) -> Tensor:
        """Encode tokens to (B, D), not normalised.

        Args:
            x: (B, L, D), without positions.
            padding: (B, L) bool, True where padded.
            deep: see Backbone.encode_prompts.
        """
        x = x + sinusoids(x.shape[1], self.shape.width, x.device).to(x.dtype)
        for number, block in enumerate(self.transformer.resblocks):
            if deep is not None and 0 < number <= len(deep):
                own = deep[number - 1].to(x.dtype).expand(x.shape[0], -1, -1)  # (B, n, D)
                x = torch.cat([own, x[:, own.shape[1] :]], dim=1)
            x = block(x, padding)
        x = self.ln_final(x)
        valid = (~padding).to(x.dtype).unsqueeze(-1)  # (B, L, 1)
        return (x * valid).sum(dim=1) / valid.sum(dim=1)


def sinusoids(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Return (length, width): sines in the first half, cosines in the second, timescales 1 to 10000 geometric.

    Args:
        length: positions.
        width: features, even.
        device: where; default the CPU.
    """
    half = width // 2
    timescales = torch.exp(torch.arange(half, device=device) * (-np.log(10000.0) / max(half - 1, 1)))
    angles = torch.arange(length, device=device).unsqueeze(1) * timescales  # (length, half)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Tips(WithoutRawOutputs, nn.Module):
    """A TIPS backbone (see Backbone): vision tower, temperature, text tower and tokenizer."""

    def __init__(
        self,
        vision: VisionTower,
        text: TextTower | None,
        tokenizer: Tokenizer | None,
        temperature: float,
        name: str,
        sha256: str = "",
        load_text: Callable[[], tuple[TextTower, Tokenizer]] | None = None,
    ) -> None:
        """Assemble a backbone.

        Args:
            vision: the vision tower.
            text: the text tower; None where load_text gives it.
            tokenizer: the text tower's; None where load_text gives it.
            temperature: what cosines are divided by before a softmax.
            name: as in `edge-agent models`.
            sha256: digest over its three files, "" for one that was never saved.
            load_text: loads text tower and tokenizer when they are first used.
        """
        super().__init__()
        self.vision = vision
        self.text = text
        self.tokenizer = tokenizer
        self.temperature = temperature
        self.name = name
        self.sha256 = sha256
        self._load_text = load_text

    @property
    def width(self) -> int:
        """Length D of image and text features."""
        return self.vision.shape.width

    @property
    def depth(self) -> int:
        """Blocks of the vision tower."""
        return self.vision.shape.depth

    @property
    def text_width(self) -> int:
        """Length of a token of the text tower."""
        return self.width

    @property
    def text_depth(self) -> int:
        """Blocks of the text tower."""
        return self._texts()[0].shape.depth

    @property
    def patch(self) -> int:
        """Side of a patch in pixels; the sides of pictures must be multiples of it."""
        return self.vision.shape.patch

    @property
    def image_size(self) -> int:
        """The side in pixels that the positions were trained for."""
        return self.vision.shape.grid * self.patch

    @property
    def preprocessing(self) -> Preprocessing:
        """See Backbone: bilinear, in [0, 1]."""
        return Preprocessing()

    @property
    def device(self) -> torch.device:
        """Where the weights are; pictures must be on the same device."""
        return next(self.parameters()).device

    @property
    def vision_tower(self) -> nn.Module:
        """See Backbone."""
        return self.vision

    def pictures(self, images: Sequence[np.ndarray], size: int) -> Tensor:
        """See Backbone. Bilinear with antialias, in [0, 1], no normalisation."""
        return pictures_to_tensor(images, size, self.device)

    def encode_image(
        self,
        x: Tensor,
        layers: Sequence[int] = (),
        *,
        values: int = 0,
        joined: bool = False,
        raw: Sequence[int] = (),
    ) -> ImageFeatures:
        """See Backbone. x: (B, 3, H, W) RGB in [0, 1]."""
        if raw or joined:
            refuse(self.name, "raw outputs of blocks" if raw else "attention of queries to queries")
        return self.vision(x, layers, values=values)

    def fix_grid(self, grid: tuple[int, int]) -> None:
        """See Backbone."""
        positions = self.vision.positions(grid).clone()
        self.vision.vit.pos_embed = nn.Parameter(positions, requires_grad=False)
        self.vision.shape = replace(self.vision.shape, grid=grid[0])

    def encode_windows(self, x: Tensor, side: int) -> Tensor:
        """See Backbone."""
        return self.vision.windows(x, side)

    def encode_text(self, sentences: Sequence[str], prompt: Tensor | None = None) -> Tensor:
        """See Backbone. prompt: Tipsomaly's."""
        text, tokenizer = self._texts()
        ids, paddings = tokenizer(sentences)
        return text(ids.to(self.device), paddings.to(self.device), prompt)

    def embed_words(self, words: str) -> Tensor:
        """See Backbone."""
        text, tokenizer = self._texts()
        ids, paddings = tokenizer([words])
        return text.token_embedding(ids[paddings == 0].to(self.device)) * text.shape.width**0.5

    def encode_prompts(
        self,
        prompts: Tensor,
        deep: Tensor | None = None,
        *,
        begun: bool = False,
        inserted: Tensor | None = None,
        norm: nn.Module | None = None,
    ) -> Tensor:
        """See Backbone. TIPS has no begin and end tokens."""
        if inserted is not None or norm is not None:
            refuse(self.name, "tokens after a begin token")
        return self._texts()[0].encode(prompts, prompts.new_zeros(prompts.shape[:2], dtype=torch.bool), deep)

    def _texts(self) -> tuple[TextTower, Tokenizer]:
        if self.text is None:
            assert self._load_text is not None
            # The first use may be in inference mode; a later one may fit prompts through the tower.
            with torch.inference_mode(False):
                text, self.tokenizer = self._load_text()
                self.text = text.to(self.device)
        assert self.tokenizer is not None
        return self.text, self.tokenizer


def load_tips(
    vision: Path,
    text: Path,
    tokenizer: Path,
    name: str = "tips",
    *,
    with_text: bool = True,
    sha256: Mapping[str, str] | None = None,
) -> Tips:
    """Load a TIPS backbone of any official size, v1 or v2, or one of our own: fp32, frozen, on the CPU.

    Args:
        vision: the vision tower's .npz file.
        text: the text tower's .npz file.
        tokenizer: the SentencePiece model file.
        name: what the backbone is to be called.
        with_text: load text tower and tokenizer now; else when they are first used, if ever.
        sha256: digests (hex) of files by name that the caller has just measured; the others are measured here.

    Raises CheckpointError.
    """
    known = sha256 or {}
    digest = hashlib.sha256()
    for path in (vision, text, tokenizer):
        digest.update(bytes.fromhex(known[path.name]) if path.name in known else _sha256(path))
    arrays = read_arrays(vision)
    shape = infer_vision_shape(arrays, vision)
    with torch.device("meta"):  # random weights, replaced at once, would only cost time
        vision_tower = VisionTower(shape)
    _load(vision_tower, vision_from_official(arrays, shape), vision)
    if shape.stem:  # faster convolutions, and patches come out in the order that the blocks read
        vision_tower.stem.to(memory_format=torch.channels_last)

    def load_text() -> tuple[TextTower, Tokenizer]:
        return _load_text(text, tokenizer, shape.width, vision)

    text_tower, pieces = load_text() if with_text else (None, None)
    temperature = _temperature(read_arrays(text, only=TEMPERATURES), text)
    tips = Tips(vision_tower, text_tower, pieces, temperature, name, digest.hexdigest(), load_text)
    return tips.eval().requires_grad_(False)


def load_tips_files(files: BackboneFiles) -> Tips:
    """Load a backbone for inspection from its three files, with the digests that were just verified. Raises as load_tips does."""
    # Tipsomaly's checkpoint holds the text features of its own class name.
    return load_tips(files.vision, files.text, files.tokenizer, files.name, with_text=False, sha256=files.sha256)


def load_tips_folder(folder: Path, name: str) -> Tips:
    """Load a backbone from a folder with its three files, without checking pins. Raises as load_tips does."""
    return load_tips(folder / VISION, folder / TEXT, folder / TOKENIZER, name)


def _load_text(text: Path, tokenizer: Path, width: int, vision: Path) -> tuple[TextTower, Tokenizer]:
    """Load text tower and tokenizer, frozen, on the CPU.

    Args:
        text: the text tower's .npz file.
        tokenizer: the SentencePiece model file.
        width: of the vision tower.
        vision: its file, named in errors.

    Raises CheckpointError, also where they are of another model than the vision file.
    """
    arrays = {key: array for key, array in read_arrays(text).items() if key not in TEMPERATURES}
    shape = infer_text_shape(arrays, text)
    if shape.width != width:
        raise CheckpointError(
            f"{vision} is {width} wide, {text} {shape.width}: they are not of one model; take both from one"
        )
    with torch.device("meta"):
        tower = TextTower(shape)
    _load(tower, {key: torch.from_numpy(value).float() for key, value in arrays.items()}, text)
    pieces = Tokenizer(tokenizer)
    if len(pieces) > shape.vocabulary:
        raise CheckpointError(
            f"{tokenizer} knows {len(pieces)} pieces, {text} only {shape.vocabulary}: take both from one model"
        )
    return tower.eval().requires_grad_(False), pieces


def infer_vision_shape(arrays: Arrays, path: Path) -> VisionShape:
    """Infer a vision tower's architecture from its arrays. path: named in the CheckpointError that is raised where none fits."""
    depth = len({key.split(".")[1] for key in arrays if key.startswith("blocks.")})
    stem = tuple(
        len(arrays[key])
        for key in sorted((key for key in arrays if re.fullmatch(r"patch_embed\.convs\.\d+\.weight", key)), key=_number)
    )
    try:
        positions, width = arrays["pos_embed"].shape[1:]
        swiglu = "blocks.0.mlp.w12.weight" in arrays
        hidden = arrays["blocks.0.mlp.w3.weight"].shape[1] if swiglu else len(arrays["blocks.0.mlp.fc1.weight"])
        patch = ConvStem.patch(stem) if stem else arrays["patch_embed.proj.weight"].shape[-1]
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"{path}: not a TIPS vision file ({error}); expected e.g. tips_oss_l14_highres_distilled_vision.npz"
        ) from None
    grid = round((positions - 1) ** 0.5)
    if grid * grid != positions - 1 or width % 64:
        raise CheckpointError(f"{path}: {positions} positions of width {width} fit no TIPS variant; is the file whole?")
    compared = tuple(sorted({int(key.split(".")[1]) for key in arrays if re.match(r"comparisons\.\d+\.", key)}))
    descriptors = [
        (key.split(".")[1], len(value))
        for key, value in arrays.items()
        if re.fullmatch(r"appearance\.\d+\.proj\.weight", key)
    ]
    appearance = next(((int(block), length) for block, length in descriptors), None)
    return VisionShape(
        width, depth, hidden, grid, patch, swiglu, stem, compared, "contrast.out.weight" in arrays, appearance
    )


def infer_text_shape(arrays: Arrays, path: Path) -> TextShape:
    """Infer a text tower's architecture from its arrays. path: named in the CheckpointError that is raised where none fits."""
    try:
        vocabulary, width = arrays["token_embedding.weight"].shape
        hidden = len(arrays["transformer.resblocks.0.mlp.c_fc.weight"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a TIPS text file ({error}); expected e.g. tips_oss_l14_highres_distilled_text.npz"
        ) from None
    depth = len({key.split(".")[2] for key in arrays if key.startswith("transformer.resblocks.")})
    return TextShape(width, depth, hidden, vocabulary)


def vision_from_official(arrays: Arrays, shape: VisionShape) -> dict[str, Tensor]:
    """Convert official names and layout to ours. The first position is the class token's and is added to it for good."""
    state = {}
    for key, value in arrays.items():
        tensor = torch.from_numpy(value).float()
        if key == "mask_token":
            continue  # only pretraining uses it
        if key == "pos_embed":
            state["vit.pos_embed"] = tensor[:, 1:]
        elif key == "cls_token":
            state["vit.cls_token"] = tensor + torch.from_numpy(arrays["pos_embed"]).float()[:, :1]
        elif key == "register_tokens":
            state["vit.reg_token"] = tensor
        elif key.startswith(("comparisons.", "contrast.", "appearance.")):
            state[key] = tensor
        elif key.startswith("patch_embed."):
            state[key.replace("patch_embed." if shape.stem else "patch_embed.proj.", "stem.")] = tensor
        else:
            state["vit." + key.replace("mlp.w12.", "mlp.fc1.").replace("mlp.w3.", "mlp.fc2.")] = tensor
    return state


def to_official(tips: Tips) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the arrays of the two .npz files, vision and text, in half precision (single numbers in fp32)."""
    vision: dict[str, Tensor] = {}
    for key, tensor in tips.vision.state_dict().items():
        if key == "vit.pos_embed":
            vision["pos_embed"] = torch.cat([torch.zeros_like(tensor[:, :1]), tensor], dim=1)
        elif key.startswith("stem."):
            vision[key.replace("stem.", "patch_embed." if tips.vision.shape.stem else "patch_embed.proj.")] = tensor
        else:
            name = key.removeprefix("vit.").replace("reg_token", "register_tokens")
            if tips.vision.shape.swiglu:
                name = name.replace("mlp.fc1.", "mlp.w12.").replace("mlp.fc2.", "mlp.w3.")
            vision[name] = tensor
    half = {key: tensor.half().cpu().numpy() for key, tensor in vision.items()}
    assert tips.text is not None
    text = {key: tensor.half().cpu().numpy() for key, tensor in tips.text.state_dict().items()}
    text["temperature"] = np.float32(tips.temperature)
    return half, text


def _temperature(arrays: Arrays, path: Path) -> float:
    for key in TEMPERATURES:
        if key in arrays:
            return float(arrays[key])
    raise CheckpointError(f"{path}: holds no temperature; is it a TIPS text file?")


def _load(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{path}: its arrays fit no TIPS variant: {first}") from None


def _sha256(path: Path) -> bytes:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); get it with `edge-agent models fetch`"
        ) from None
    return digest.digest()


def _number(key: str) -> int:
    return int(key.split(".")[2])
