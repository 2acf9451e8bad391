"""The base class of detection methods: learned prompts on a frozen backbone, features in, scores out; pure and differentiable."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from edge_agent.backbones.backbone import Backbone


@dataclass(frozen=True, slots=True)
class Scores:
    """Anomaly scores of B pictures, fp32 in [0, 1].

    picture: (B,). patches: (B, h, w), of the patches or of finer cells.
    """

    picture: Tensor
    patches: Tensor


class Method(nn.Module):
    """One method on one backbone. Its parameters are fitted; fitting and inspecting call the same `forward`.

    name: as in a checkpoint's header, and in methods.METHODS. sigma: of the map's blur, in pixels of a map of side 518.
    upsampling: from patches to map. layers, values, joined, raw: arguments of Backbone.encode_image. fixed_batch: whether it splits
    batches, which an exported graph can do for one size of batch only. pictures: whether `forward` encodes the pictures once more.
    """

    name: ClassVar[str]
    sigma: ClassVar[float]
    upsampling: ClassVar[Literal["bilinear", "nearest"]] = "bilinear"
    fixed_batch: ClassVar[bool] = False
    pictures: ClassVar[bool] = False
    layers: Sequence[int] = ()
    values: int = 0
    joined: bool = False
    raw: Sequence[int] = ()

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        object.__setattr__(self, "backbone", backbone)  # frozen and shared: not a submodule

    backbone: Backbone

    def encode(self, x: Tensor) -> Any:
        """Compute the input of `forward` from pictures (B, 3, H, W): the backbone's features, unless a method overrides this."""
        found = self.backbone.encode_image(x, self.layers, values=self.values, joined=self.joined, raw=self.raw)
        return replace(found, pictures=x) if self.pictures else found

    @abstractmethod
    def forward(self, features: Any) -> Any:
        """Compute the output that scores and, in training, losses are made from; the method's own class says what it is."""

    @abstractmethod
    def scores(self, output: Any, keep: Tensor | None = None) -> Scores:
        """Compute the scores from the output of `forward`. keep: (B, h, w) bool, the patches that count; None for all."""

    @classmethod
    def fresh(cls, backbone: Backbone, class_name: str) -> Method:
        """Create the method with random parameters from torch's global generator, ready to be fitted."""
        return cls(backbone)

    @classmethod
    @abstractmethod
    def restored(
        cls, backbone: Backbone, header: Mapping[str, Any], tensors: Mapping[str, Tensor], class_name: str
    ) -> Method:
        """Create the fitted method on the backbone's device from what `settings` and `tensors` returned; see methods.restore."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that a checkpoint holds."""

    def settings(self) -> dict[str, Any]:
        """Return what a checkpoint's header holds besides, so that the method can be restored (JSON values)."""
        return {}

    @classmethod
    def facts(cls) -> Any:
        """Return what changes the scores of a method without a checkpoint, such as its sentences (a JSON value)."""
        return None

    def precompute(self) -> None:
        """Compute what inspecting no longer changes, such as text features of prompts. Call under no_grad, before inspecting."""

    def fix_grid(self, grid: tuple[int, int]) -> None:
        """Resize the positions of its towers to (h, w) patches for good, in place, so that an exported graph need not."""
        self.backbone.fix_grid(grid)

    def make_portable(self) -> None:
        """Undo what `precompute` did for this machine alone: an exported graph is made of what is left."""


def spread(count: int, depth: int) -> tuple[int, ...]:
    """Choose `count` blocks, evenly spaced in a tower of `depth` and with its last one, counted from 1: (6, 12, 18, 24) of 24."""
    return tuple(max(1, round(depth * number / count)) for number in range(1, count + 1))
