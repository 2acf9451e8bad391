"""Sides in pixels that pictures can be read at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.errors import EdgeAgentError

if TYPE_CHECKING:
    from edge_agent.backbones.backbone import Backbone

MAX_WINDOWS = 8  # along each side of a picture: 64 of them, and 65 times the work
PUBLISHED_SIDE = 518  # pixels, in the papers of all methods


def whole_patches(side: int, patch: int) -> int:
    """Return the multiple of `patch` nearest to `side`, at least one patch; all in pixels."""
    return max(1, round(side / patch)) * patch


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
