"""The first three stages of a ResNet with bottlenecks (He et al., arXiv 1512.03385; wide: Zagoruyko and Komodakis, 1605.07146).

Parameters have the names that timm gives them. Batch norms are folded into the convolutions before them when weights are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.vision_only import Trunk

STRIDE = 8  # pixels a side of the finest grid that features are given on: that of stage 2
BLOCKS = (3, 4, 6)  # of the stages; the fourth is not read
BATCH_NORM_EPS = 1e-5


class Bottleneck(nn.Module):
    """Three convolutions (1 x 1, 3 x 3, 1 x 1) beside a shortcut."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int) -> None:
        """Make a block with random weights.

        Args:
            inputs: channels that come in.
            inner: channels of its 3 x 3 convolution.
            outputs: channels that go out.
            stride: of its 3 x 3 convolution and its shortcut.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1)
        self.conv3 = nn.Conv2d(inner, outputs, 1)
        changes = stride != 1 or inputs != outputs
        self.downsample = nn.ModuleList([nn.Conv2d(inputs, outputs, 1, stride)]) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, h, w) of x (B, inputs, H, W)."""
        inner = F.relu(self.conv1(x), inplace=True)
        inner = F.relu(self.conv2(inner), inplace=True)
        shortcut = x if self.downsample is None else self.downsample[0](x)
        return F.relu(self.conv3(inner).add_(shortcut), inplace=True)


class ResNet(Trunk):
    """Stem and stages 1 to 3, of 256, 512 and 1024 channels."""

    def __init__(self, wide: int = 2) -> None:
        """Make one with random weights. wide: factor of the 3 x 3 convolutions' channels; default 2, as wide_resnet50_2."""
        super().__init__()
        inputs = 64
        self._channels: list[int] = []
        self.conv1 = nn.Conv2d(3, inputs, 7, 2, 3)
        for stage, blocks in enumerate(BLOCKS):
            outputs = 256 * 2**stage
            made = []
            for number in range(blocks):
                stride = 2 if number == 0 and stage else 1
                made.append(Bottleneck(inputs, outputs // 4 * wide, outputs, stride))
                inputs = outputs
            self._channels.append(outputs)
            setattr(self, f"layer{stage + 1}", nn.Sequential(*made))

    @property
    def stride(self) -> int:
        """See Trunk."""
        return STRIDE

    @property
    def channels(self) -> list[int]:
        """See Trunk."""
        return self._channels

    def stages(self) -> list[nn.Sequential]:
        """Return the stages in their order."""
        return [stage for stage in self.children() if isinstance(stage, nn.Sequential)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """See Trunk."""
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(F.relu(self.conv1(x), inplace=True), 3, 2, 1)
        outputs = []
        for stage in self.stages():
            x = stage(x)
            outputs.append(x)
        return outputs

    def load_published(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill in timm's state dict, folding the batch norms; stage 4 and the classifier are passed over.

        Raises KeyError for a tensor that is not there, ValueError where a shape differs.
        """
        for name, convolution in self.named_modules():
            if not isinstance(convolution, nn.Conv2d):
                continue
            norm = f"{name[:-1]}1" if "downsample" in name else name.replace("conv", "bn")
            weight = tensors[f"{name}.weight"]
            scale, shift, mean, variance = (
                tensors[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
            )
            if weight.shape != convolution.weight.shape or variance.shape != weight.shape[:1]:
                raise ValueError(f"{name} is {tuple(weight.shape)}, not {tuple(convolution.weight.shape)}")
            factor = scale / (variance + BATCH_NORM_EPS).sqrt()
            with torch.no_grad():
                convolution.weight.copy_(weight.double() * factor.view(-1, 1, 1, 1))
                assert convolution.bias is not None
                convolution.bias.copy_(shift - mean * factor)
