"""Backbones with random weights of published shapes, for timing only: they cost what the real ones do."""

from __future__ import annotations

import torch

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.families import family_of


def random_backbone(name: str, seed: int = 0) -> Backbone:
    """Build the backbone of that name with random weights: fp32, frozen, on the CPU; a seed gives the same weights each time.

    Raises CheckpointError for an unknown name, and where the shape is not known without the files.
    """
    family = family_of(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.random(name)
