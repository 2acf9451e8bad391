"""The linear maps that the authors of APRIL-GAN publish, and ours for the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.clip.names import EXAMPLE
from edge_agent.detectors.clip.aprilgan import LAYERS, AprilGan
from edge_agent.detectors.method import spread
from edge_agent.importing.layout import Parts
from edge_agent.importing.tensors import checked_shapes

MAPS = "trainable_linearlayer"


class AprilGanLayout:
    """See Layout. A dict with one part. The authors ran CLIP with plain GELU and other positions: so does the checkpoint."""

    title = "APRIL-GAN"
    backbone = EXAMPLE
    fits_tips = False
    tokens = (MAPS, "")
    settings: Mapping[str, Mapping[str, Any]] = {}

    def recognise(self, content: Any) -> bool:
        """See Layout."""
        return isinstance(content, Mapping) and set(content) == {MAPS}

    def parts(self, content: Any) -> Mapping[str, Any]:
        """See Layout."""
        return {MAPS: content[MAPS]}

    def build(self, backbone: Backbone, parts: Parts, class_name: str, trained_on: str | None) -> AprilGan:
        """See Layout."""
        return aprilgan_from_published(backbone, parts[MAPS], class_name)


def published_shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the authors' tensors by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(LAYERS):
        shapes |= {
            f"fc.{number}.weight": (backbone.width, backbone.tower_width),
            f"fc.{number}.bias": (backbone.width,),
        }
    return shapes


def aprilgan_from_published(backbone: Backbone, known: Mapping[str, Tensor], class_name: str = "object") -> AprilGan:
    """Make the method of the authors' tensors.

    Args:
        backbone: the one that they were fitted on, with either activation.
        known: the authors' checkpoint["trainable_linearlayer"].
        class_name: what the pictures show.

    Raises CheckpointError naming what does not fit.
    """
    floats = checked_shapes(known, published_shapes(backbone), AprilGanLayout.title, backbone)
    layers = spread(LAYERS, backbone.depth)  # as many as there are maps, even of a shallower tower
    method = AprilGan(backbone, class_name, layers=layers, activation="gelu", positions="bicubic antialias")
    method.load_state_dict({name.replace("fc.", "maps."): value for name, value in floats.items()})
    return method
