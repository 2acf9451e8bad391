"""What a detection method is: learned prompts on a frozen backbone, features in, scores out; pure and differentiable."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from edge_agent.backbones.backbone import Backbone


@dataclass(frozen=True, slots=True)
class Scores:
    """picture: (B,), how anomalous each picture is. patches: (B, h, w), the same of its patches, or of finer cells.

    Both in [0, 1], fp32.
    """

    picture: Tensor
    patches: Tensor


class Method(nn.Module):
    """One method on one backbone; its parameters are what is fitted. Fitting and inspecting call the same `forward`.

    name: as in a checkpoint's header. sigma: of the blur of its map, pixels at 518. upsampling: from patches to map.
    layers, values: what it wants of Backbone.encode_image. fixed_batch: it cuts batches into parts, which an exported graph does
    for one size of batch only.
    """

    name: ClassVar[str]
    sigma: ClassVar[float]
    upsampling: ClassVar[Literal["bilinear", "nearest"]] = "bilinear"
    fixed_batch: ClassVar[bool] = False
    layers: Sequence[int] = ()
    values: bool = False

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        object.__setattr__(self, "backbone", backbone)  # frozen and shared: not one of this module's own

    backbone: Backbone

    def encode(self, x: Tensor) -> Any:
        """What `forward` wants of pictures (B, 3, H, W): the backbone's features, unless a method says otherwise."""
        return self.backbone.encode_image(x, self.layers, values=self.values)

    @abstractmethod
    def forward(self, features: Any) -> Any:
        """All that scores, and in training losses, are made from: see the method's own class for what that is."""

    @abstractmethod
    def scores(self, found: Any, keep: Tensor | None = None) -> Scores:
        """Of what `forward` found. keep: (B, h, w) bool, the patches that count."""

    @classmethod
    def fresh(cls, backbone: Backbone, class_name: str) -> Method:
        """Ready to be fitted, its parameters drawn from torch's global generator."""
        return cls(backbone)

    @classmethod
    @abstractmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> Method:
        """The fitted method, on the backbone's device, from what `settings` and `tensors` gave. See methods.restore."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""

    def settings(self) -> dict[str, Any]:
        """What a checkpoint's header says beside its tensors, so that the method can be built again (JSON values)."""
        return {}

    @classmethod
    def facts(cls) -> Any:
        """Return what changes the scores of a method without a checkpoint, such as its sentences (a JSON value)."""
        return None

    def precompute(self) -> None:
        """Before inspecting: compute once what no longer changes, such as text features of prompts. Call under no_grad."""


def spread(count: int, depth: int) -> tuple[int, ...]:
    """`count` blocks spread evenly over a tower of `depth`, counted from 1, the last one among them: (6, 12, 18, 24) of 24."""
    return tuple(max(1, round(depth * number / count)) for number in range(1, count + 1))
