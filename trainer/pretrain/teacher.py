"""A teacher of what a patch looks like: ResNet-50 v2 trained on ImageNet, up to its third stage, from arrays by Gluon's names.

Source: the ONNX model zoo's resnet50-v2 (Apache-2.0; He et al., "Identity mappings in deep residual networks", 2016). Left
out: its fourth stage and its classes. None of its weights goes into the student.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.weights.arrays import read_arrays
from edge_agent.errors import CheckpointError

UNITS = (3, 4, 6)  # of stages 1 to 3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PATCH = 16  # pixels from one feature to the next


class Norm(nn.Module):
    """A batch norm in evaluation mode, and ReLU."""

    scale: Tensor
    shift: Tensor

    def __init__(self, arrays: dict[str, np.ndarray], name: str, *, relu: bool = True) -> None:
        """Load a norm.

        Args:
            arrays: weights by their published names.
            name: of the norm, such as stage1_batchnorm0.
            relu: whether ReLU follows.
        """
        super().__init__()
        gamma, beta, mean, variance = (
            torch.from_numpy(arrays[f"{name}_{key}"]).float()
            for key in ("gamma", "beta", "running_mean", "running_var")
        )
        scale = gamma / (variance + 1e-5).sqrt()
        self.register_buffer("scale", scale.view(-1, 1, 1))
        self.register_buffer("shift", (beta - mean * scale).view(-1, 1, 1))
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        y = x * self.scale + self.shift
        return F.relu_(y) if self.relu else y


class Unit(nn.Module):
    """A pre-activation bottleneck. The first of a stage widens its shortcut and, from stage 2 on, halves the resolution."""

    def __init__(self, arrays: dict[str, np.ndarray], stage: int, number: int, *, first: bool) -> None:
        """Load a unit.

        Args:
            arrays: weights by their published names.
            stage: from 1.
            number: of the unit within its stage, from 0.
            first: whether it is the first of its stage.
        """
        super().__init__()
        name = f"stage{stage}"
        norm, conv = 3 * number, 3 * number + (0 if first else 1)
        self.norms = nn.ModuleList(Norm(arrays, f"{name}_batchnorm{norm + index}") for index in range(3))
        self.convs = nn.ParameterList(
            torch.from_numpy(arrays[f"{name}_conv{conv + index}_weight"])
            .float()
            .contiguous(memory_format=torch.channels_last)
            for index in range(4 if first else 3)
        )
        self.first, self.stride = first, 2 if first and stage > 1 else 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[0](x)
        shortcut = F.conv2d(y, self.convs[3], stride=self.stride) if self.first else x
        y = self.norms[1](F.conv2d(y, self.convs[0]))
        y = self.norms[2](F.conv2d(y, self.convs[1], stride=self.stride, padding=1))
        return F.conv2d(y, self.convs[2]) + shortcut


class Trunk(nn.Module):
    """The features of the second and third stage."""

    conv: Tensor

    def __init__(self, path: Path) -> None:
        """Load the arrays of an .npz file. Raises CheckpointError when they are not this trunk's."""
        super().__init__()
        arrays = read_arrays(path)
        try:
            self.incoming = Norm(arrays, "batchnorm0", relu=False)
            self.register_buffer("conv", torch.from_numpy(arrays["conv0_weight"]).float())
            self.norm = Norm(arrays, "batchnorm1")
            self.stages = nn.ModuleList(
                nn.Sequential(*(Unit(arrays, stage, number, first=number == 0) for number in range(units)))
                for stage, units in enumerate(UNITS, start=1)
            )
            self.outgoing = nn.ModuleList([Norm(arrays, "stage3_batchnorm0"), Norm(arrays, "stage4_batchnorm0")])
        except KeyError as error:
            raise CheckpointError(f"{path}: holds no {error}: expected the first stages of resnet50-v2") from None
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, H/16 * W/16, 1024 + 2 * 512), each part unit, of x (B, 3, H, W) in [0, 1], sides multiples of 16."""
        x = (x - x.new_tensor(MEAN).view(3, 1, 1)) / x.new_tensor(STD).view(3, 1, 1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(self.norm(F.conv2d(self.incoming(x), self.conv, stride=2, padding=3)), 3, 2, 1)
        middle = self.stages[1](self.stages[0](x))  # (B, 512, H/8, W/8)
        last = self.outgoing[1](self.stages[2](middle))  # (B, 1024, H/16, W/16)
        middle = self.outgoing[0](middle)
        parts = (last, F.avg_pool2d(middle, 2), F.max_pool2d(middle, 2))
        return torch.cat([F.normalize(part.flatten(2).transpose(1, 2), dim=2) for part in parts], dim=2)


class Teacher:
    """Targets to learn from a trunk's features: their principal directions, evened out in weight.

    mean: (F,). directions: (K, F), scaled so that the targets' squares sum to 1 over the pictures they were found on.
    """

    def __init__(self, trunk: Trunk, mean: Tensor, directions: Tensor) -> None:
        """Use directions that were found before.

        Args:
            trunk: frozen.
            mean: (F,) of the trunk's features.
            directions: (K, F).
        """
        self.trunk, self.mean, self.directions = trunk, mean, directions

    @classmethod
    def of(cls, trunk: Trunk, x: Tensor, width: int) -> Teacher:
        """Find the directions.

        Args:
            trunk: gives the features.
            x: (B, 3, H, W) in [0, 1], pictures to find them on.
            width: number of directions, K.
        """
        features = torch.cat([trunk(part) for part in x.split(16)]).flatten(0, 1).double()  # (B * N, F)
        mean = features.mean(dim=0)
        centred = features - mean
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        values, vectors = values[-width:].clamp(min=1e-9), vectors[:, -width:]
        scale = values**-0.25  # half way to whitening: small directions count, but less than large ones
        scale = scale / (values * scale.square()).sum().sqrt()
        return cls(trunk, mean.float(), (vectors * scale).T.float().contiguous())

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Return targets (B, N, K), one a patch, of x (B, 3, H, W) in [0, 1]."""
        return (self.trunk(x) - self.mean.to(x.device)) @ self.directions.T.to(x.device)
