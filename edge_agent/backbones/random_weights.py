"""Backbones of published shapes with weights drawn from a seed: what they cost is true, what they say is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edge_agent.backbones.tips import TextShape, TextTower, Tips, VisionShape, VisionTower
from edge_agent.backbones.tokenizer import Tokenizer
from edge_agent.backbones.weights.clip_names import is_clip
from edge_agent.backbones.weights.store import EMBEDDED_FOLDER
from edge_agent.errors import CheckpointError

if TYPE_CHECKING:
    from edge_agent.backbones.clip import Clip

SHAPES = {"s14": (384, 12), "b14": (768, 12), "l14": (1024, 24)}  # width and depth
GRID, VOCABULARY, TEMPERATURE = 32, 32000, 0.07


def drawn(name: str, seed: int = 0) -> Tips | Clip:
    """name: "s14", "b14", "l14" (or as `edge-agent models` lists them, "tips-s14"), or clip:MODEL/TAG. fp32, frozen, on the CPU.

    Raises CheckpointError for what it has no shape of.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = _clip(name) if is_clip(name) else _tips(name)
    return backbone.eval().requires_grad_(False)


def _tips(name: str) -> Tips:
    size = name.removeprefix("tips-").removeprefix("tips2-")
    if size not in SHAPES:
        raise CheckpointError(
            f"{name}: no weights are here, and no shape to draw them in: that is known of {', '.join(SHAPES)} and clip:MODEL/TAG"
        )
    width, depth = SHAPES[size]
    vision = VisionTower(VisionShape(width, depth, 4 * width, GRID))
    text = TextTower(TextShape(width, 12, 4 * width, VOCABULARY))
    torch.nn.init.normal_(text.token_embedding.weight, std=width**-0.5)
    return Tips(vision, text, Tokenizer(EMBEDDED_FOLDER / "tokenizer.model"), TEMPERATURE, f"tips-{size}")


def _clip(name: str) -> Clip:
    from open_clip.model import CLIP  # slow to import
    from open_clip.tokenizer import SimpleTokenizer

    from edge_agent.backbones.clip import Clip
    from edge_agent.backbones.weights.clip_names import architecture, parse_clip

    wanted = parse_clip(name)
    model = CLIP(**architecture(wanted))
    return Clip(model, SimpleTokenizer(context_length=model.context_length), wanted.name)
