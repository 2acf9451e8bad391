"""What methods on CLIP's own towers share: how their authors ran CLIP's weights is kept in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.backbones.backbone import Activation, Backbone, Positions, refuse
from edge_agent.detectors.method import Method

TEMPERATURE = 0.07  # as published, not the backbone's own


class ClipMethod(Method):
    """A method on CLIP, run with the activation and the way to resize positions that its parameters were fitted with."""

    def __init__(
        self, backbone: Backbone, *, activation: Activation | None = None, positions: Positions = "bilinear"
    ) -> None:
        """Take the backbone as it is to be run.

        Args:
            backbone: CLIP.
            activation: of its MLPs; default its own.
            positions: how those of patches are resized; default bilinearly.

        Raises CheckpointError for a backbone that is no CLIP.
        """
        activation = activation or backbone.activation
        if activation is None:
            refuse(backbone.name, "tower of CLIP's")
        super().__init__(backbone.run_as(activation, positions))
        self.activation, self.positions = activation, positions

    def settings(self) -> dict[str, Any]:
        """See Method."""
        return {"activation": self.activation, "positions": self.positions}


def run_as(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ClipMethod that a checkpoint's header holds."""
    return {"activation": str(header["activation"]), "positions": str(header["positions"])}
