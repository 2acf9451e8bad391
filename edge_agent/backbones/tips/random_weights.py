"""TIPS backbones of published shapes with random weights, for timing only."""

from __future__ import annotations

import torch

from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.backbones.tips.files import TOKENIZER
from edge_agent.backbones.tips.model import TextShape, TextTower, Tips, VisionShape, VisionTower
from edge_agent.backbones.tokenizer import Tokenizer

SHAPES = {  # width and depth
    "tips-s14": (384, 12),
    "tips-b14": (768, 12),
    "tips-l14": (1024, 24),
    "tips2-b14": (768, 12),
    "tips2-l14": (1024, 24),
}
GRID, VOCABULARY, TEMPERATURE = 32, 32000, 0.07


def random_tips(name: str) -> Tips:
    """Build the TIPS of that name of SHAPES, with weights from torch's global generator: fp32, frozen, on the CPU."""
    width, depth = SHAPES[name]
    vision = VisionTower(VisionShape(width, depth, 4 * width, GRID))
    text = TextTower(TextShape(width, 12, 4 * width, VOCABULARY))
    torch.nn.init.normal_(text.token_embedding.weight, std=width**-0.5)
    tips = Tips(vision, text, Tokenizer(EMBEDDED_FOLDER / TOKENIZER), TEMPERATURE, name)
    return tips.eval().requires_grad_(False)
