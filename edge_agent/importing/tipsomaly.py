"""The prompts that the authors of Tipsomaly publish: a list of two tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.tipsomaly import PROMPT_LENGTH, Tipsomaly
from edge_agent.errors import CheckpointError
from edge_agent.importing.layout import Parts

PROMPTS = "learnable_prompts"


class TipsomalyLayout:
    """See Layout. The file is a ParameterList, or a dict with one."""

    title = "Tipsomaly"
    backbone = "tips-l14"
    fits_tips = True
    tokens = (PROMPTS, "0")
    settings: Mapping[str, Mapping[str, Any]] = {}

    def recognise(self, content: Any) -> bool:
        """See Layout."""
        return isinstance(content, nn.ParameterList) or (isinstance(content, Mapping) and PROMPTS in content)

    def parts(self, content: Any) -> Mapping[str, Any]:
        """See Layout."""
        return {PROMPTS: _numbered(content[PROMPTS] if isinstance(content, Mapping) else content)}

    def build(self, backbone: Backbone, parts: Parts, class_name: str, trained_on: str | None) -> Tipsomaly:
        """See Layout."""
        return tipsomaly_from_published(backbone, list(parts[PROMPTS].values()), class_name)


def tipsomaly_from_published(backbone: Backbone, prompts: Sequence[Tensor], class_name: str = "object") -> Tipsomaly:
    """Make the method of the authors' prompts.

    Args:
        backbone: the one that the prompts were fitted on.
        prompts: the two learned ones, normal then anomalous, each (S, W).
        class_name: what the pictures show; default "object".

    Raises CheckpointError when the prompts do not fit the backbone.
    """
    shapes = [tuple(prompt.shape) for prompt in prompts]
    length = shapes[0][0] if shapes and shapes[0] else 0
    if not length or shapes != [(length, backbone.text_width)] * 2:
        raise CheckpointError(
            f"not Tipsomaly's prompts for {backbone.name}: they are {shapes} where two of ({PROMPT_LENGTH},"
            f" {backbone.text_width}) are wanted; take the authors' file, for the backbone it was fitted on"
        )
    method = Tipsomaly(backbone, class_name)
    method.prompt = nn.Parameter(torch.stack([prompt.detach().float() for prompt in prompts]).to(backbone.device))
    return method


def _numbered(content: Any) -> Any:
    """Return the entries of a list, or of a ParameterList of any version of torch, as a dict by their numbers."""
    if isinstance(content, nn.ParameterList):
        return vars(content).get("_parameters")
    if isinstance(content, Sequence) and not isinstance(content, (str, bytes)):
        return {str(number): value for number, value in enumerate(content)}
    return None
