"""Settings of a fit that nobody gave: as published, or what comes nearest."""

from __future__ import annotations

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.image_size import whole_patches

PUBLISHED_SIDE = 518  # pixels, in the papers of all methods
PUBLISHED_PICTURES = 1725  # of MVTec AD's test split, which they fit on


def default_side(backbone: Backbone) -> int:
    """Return the side in pixels at which pictures are read: the papers' 518 or the nearest in whole patches; the embedded model's own."""
    if backbone.name == EMBEDDED:
        return backbone.image_size
    return whole_patches(PUBLISHED_SIDE, backbone.patch)


def chosen_side(backbone: Backbone, image_size: int | None) -> int:
    """Return the side in pixels that was asked for, or the default. Raises EdgeAgentError when it is not in whole patches."""
    side = image_size or default_side(backbone)
    if side % backbone.patch:
        raise EdgeAgentError(
            f"image size {side} is no multiple of {backbone.name}'s patch of {backbone.patch} pixels:"
            f" take {whole_patches(side, backbone.patch)}"
        )
    return side


def default_epochs(published: int, batch: int, count: int) -> int:
    """Return the number of epochs: as published, or more for fewer pictures, so that there are as many steps.

    Args:
        published: number of epochs in the paper.
        batch: pictures a step.
        count: pictures to fit on.
    """
    steps = published * PUBLISHED_PICTURES // batch
    return max(published, -(-steps // -(-count // batch)))
