"""What importing needs to know of the way in which one method's authors publish their prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.method import Method

Parts = Mapping[str, Mapping[str, Tensor]]
"""Dicts of tensors in a file, under the authors' keys and names."""


class Layout(Protocol):
    """The layout of one method's files.

    title: the method's name as its authors write it. backbone: the one they fitted on. fits_tips: whether the prompts
    fit TIPS towers too. tokens: part and name of a tensor of learned tokens, (..., width of the text tower).
    settings: where they depend on the data set that the authors trained on, the settings by the data set's key.
    """

    title: str
    backbone: str
    fits_tips: bool
    tokens: tuple[str, str]
    settings: Mapping[str, Mapping[str, Any]]

    def recognise(self, content: Any) -> bool:
        """Return whether the content of a file is of this layout."""

    def parts(self, content: Any) -> Mapping[str, Any]:
        """Return the parts of recognised content, under the authors' keys. What is in them is not checked yet."""

    def build(self, backbone: Backbone, parts: Parts, class_name: str, trained_on: str | None) -> Method:
        """Make the method from the authors' tensors.

        Args:
            backbone: the one to inspect with.
            parts: as `parts` returned them, checked.
            class_name: what the user's pictures show.
            trained_on: key of `settings`, or None.

        Raises CheckpointError naming what does not fit or is missing.
        """
