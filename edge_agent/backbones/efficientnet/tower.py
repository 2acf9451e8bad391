"""The trunk of EfficientNet-Lite (Tan and Le, arXiv 1905.11946; Lite: no squeeze-excite, ReLU6).

Batch norms are folded into the convolutions before them, which inspecting never changes. TensorFlow, which the weights are
from, pads more on the far sides before a convolution of stride 2, where torch pads as much on both: what a cell sees would lie
up to a cell above and left of its place. A copy with other padding takes a quarter of the time; so pictures and kernels are
turned by 180 degrees, where torch's padding of stride 2 is TensorFlow's, and the stages' outputs are turned back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.vision_only import Trunk

STEM = 32  # channels, in every size
STRIDE = 8  # pixels a side of the finest grid that features are given on: that of stage 3
BATCH_NORM_EPS = 1e-3  # TensorFlow's
# repeats, kernel, stride, expansion and channels of stages 1 to 6; the seventh is not read
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How much wider (channels) and deeper (repeats) than Lite0 a size is."""

    width: float
    depth: float

    def channels(self, base: int) -> int:
        """Scale channels and round them to a multiple of 8, by less than a tenth downwards."""
        wanted = base * self.width
        rounded = max(8, int(wanted + 4) // 8 * 8)
        return rounded if rounded >= 0.9 * wanted else rounded + 8

    def repeats(self, base: int, stage: int) -> int:
        """Scale the repeats of a stage, rounded up; the first stage is as it is in Lite0."""
        return base if stage == 1 else -int(-base * self.depth // 1)


class Block(nn.Module):
    """An inverted residual: expansion (if any), depthwise convolution, projection."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        """Make a block with random weights.

        Args:
            inputs: channels that come in.
            outputs: channels that go out.
            kernel: side of the depthwise convolution in pixels.
            stride: of the depthwise convolution.
            expansion: how many times as many channels it works on; 1 for no expansion.
        """
        super().__init__()
        inner = inputs * expansion
        self.expand = nn.Conv2d(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = nn.Conv2d(inner, inner, kernel, stride, kernel // 2, groups=inner)
        self.project = nn.Conv2d(inner, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h, w) of x (B, inputs, H, W)."""
        inner = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        found = self.project(F.relu6(self.depthwise(inner), inplace=True))
        return found.add_(x) if self.residual else found


class EfficientNetTrunk(Trunk):
    """Stem and stages 1 to 6."""

    def __init__(self, scaling: Scaling) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM, 3, 2, 1)
        self.stages = nn.ModuleList()
        inputs = STEM
        for number, (repeats, kernel, stride, expansion, base) in enumerate(STAGES, start=1):
            outputs = scaling.channels(base)
            blocks = []
            for repeat in range(scaling.repeats(repeats, number)):
                blocks.append(Block(inputs, outputs, kernel, stride if repeat == 0 else 1, expansion))
                inputs = outputs
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the output of each stage, (B, C, h, w), of pictures (B, 3, H, W) in the trunk's own normalisation."""
        outputs = []
        x = x.contiguous(memory_format=torch.channels_last)  # a quarter less time on a CPU
        x = F.relu6(self.stem(x.flip(2, 3)), inplace=True)
        for stage in self.stages:
            x = stage(x)
            outputs.append(x.flip(2, 3))
        return outputs

    @property
    def stride(self) -> int:
        """See Trunk."""
        return STRIDE

    @property
    def channels(self) -> list[int]:
        """Channels of each stage's output."""
        return [stage[-1].project.out_channels for stage in self.stages]  # type: ignore[index]

    def convolutions(self) -> Iterator[nn.Conv2d]:
        """All convolutions, in the order of the published state dicts."""
        return (part for part in self.modules() if isinstance(part, nn.Conv2d))

    def load_published(self, tensors: Sequence[Tensor]) -> None:
        """Fill in a published state dict, folding the batch norms.

        tensors: its values in order: of every convolution its weight, then weight, bias, mean, variance and count of its
        batch norm; what follows stage 6 is passed over. Raises ValueError where a shape differs.
        """
        for at, convolution in enumerate(self.convolutions()):
            weight, scale, shift, mean, variance, _ = tensors[6 * at : 6 * at + 6]
            if weight.shape != convolution.weight.shape or variance.shape != weight.shape[:1]:
                raise ValueError(f"convolution {at} is {tuple(weight.shape)}, not {tuple(convolution.weight.shape)}")
            factor = scale.double() / (variance.double() + BATCH_NORM_EPS).sqrt()
            with torch.no_grad():
                convolution.weight.copy_((weight.double() * factor.view(-1, 1, 1, 1)).flip(2, 3))
                assert convolution.bias is not None
                convolution.bias.copy_(shift.double() - mean.double() * factor)
