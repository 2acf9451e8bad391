"""Published tensors held to the names and shapes that a method has on a backbone."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.errors import CheckpointError


def checked_shapes(
    known: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    title: str,
    backbone: Backbone,
    unused: str = r"(?!)",
) -> dict[str, Tensor]:
    """Return the wanted tensors, fp32.

    Args:
        known: the file's tensors by the authors' names.
        shapes: of those that are wanted.
        title: of the method.
        backbone: that the tensors are to be used with.
        unused: pattern of names that may be there and change no result; default none.

    Raises CheckpointError naming what is missing, unknown, or of another shape.
    """
    faults = [f"{name} is missing" for name in shapes if name not in known]
    faults += [f"{name} is unknown" for name in known if name not in shapes and not re.fullmatch(unused, name)]
    faults += [
        f"{name} is {tuple(known[name].shape)} instead of {shape}"
        for name, shape in shapes.items()
        if name in known and tuple(known[name].shape) != shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CheckpointError(
            f"no {title} for {backbone.name}: {'; '.join(faults[:5])}{more}; take the authors' file, and the backbone it was"
            " fitted on (clip:ViT-L-14-336/openai)"
        )
    return {name: known[name].detach().float() for name in shapes}
