"""The model in training: both towers and the temperature, with batch norms in the stem."""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_agent.backbones.tips.model import ConvStem, TextShape, TextTower, Tips, VisionShape, VisionTower
from edge_agent.backbones.tokenizer import Tokenizer
from edge_agent.errors import CheckpointError
from trainer.pretrain.recipe import Recipe


class TrainedStem(nn.Module):
    """ConvStem with batch norms, which `folded` merges into its convolutions."""

    def __init__(self, widths: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.stem = ConvStem(widths, width)
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) for after in widths)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.stem.convs, self.norms, strict=True):
            y = F.relu(norm(conv(x)))
            x = x + y if conv.stride == (1, 1) else y
        return self.stem.proj(x)

    def folded(self) -> ConvStem:
        """Return a stem without norms that computes what this one computes in evaluation mode."""
        stem = copy.deepcopy(self.stem)
        for conv, norm in zip(stem.convs, self.norms, strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            fused = torch.nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval())
            conv.weight, conv.bias = fused.weight, fused.bias
        return stem


class Student(nn.Module):
    """A small TIPS in training."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer, *, has_teacher: bool = False) -> None:
        """Draw random weights from torch's global generator.

        Args:
            recipe: shapes of the towers.
            tokenizer: its vocabulary.
            has_teacher: whether the vision tower also has outputs for what a teacher says of each patch; default False.
        """
        super().__init__()
        self.teacher_block = min(recipe.teacher_block, recipe.depth)
        patch = ConvStem.patch(recipe.stem)
        shape = VisionShape(
            recipe.width,
            recipe.depth,
            4 * recipe.width,
            recipe.image_size // patch,
            patch,
            False,
            recipe.stem,
            tuple(block for block in recipe.compared if block < recipe.depth),
            recipe.contrast,
            (self.teacher_block, recipe.teacher_width) if has_teacher else None,
        )
        self.vision = VisionTower(shape)
        nn.init.normal_(self.vision.vit.cls_token, std=0.02)  # unlike each other from the start
        nn.init.normal_(self.vision.vit.reg_token, std=0.02)
        for name, weight in self.vision.named_parameters():
            if name.startswith(("comparisons.", "contrast.")) and name.endswith("out.weight"):
                nn.init.zeros_(weight)  # adds the same to every patch until it has learnt what to add
        self.vision.stem = TrainedStem(recipe.stem, recipe.width)
        self.text = TextTower(TextShape(recipe.width, recipe.text_depth, 4 * recipe.width, len(tokenizer)))
        nn.init.normal_(self.text.token_embedding.weight, std=recipe.width**-0.5)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.07)))

    @torch.no_grad()
    def load_embedded(self, tips: Tips, x: Tensor) -> None:
        """Take over the weights of an embedded model; those that it lacks stay random.

        The function is the model's, but for the first class token, to which random numbers of its own spread are added.

        Args:
            tips: the embedded model.
            x: (B, 3, H, W) in [0, 1], pictures by which the stem's norms are set so that they change nothing.

        Raises CheckpointError when the model's shapes are not this one's.
        """
        assert tips.text is not None
        wanted = self.state_dict()
        given = {f"vision.{key}": value for key, value in tips.vision.state_dict().items()}
        given = {key.replace(".stem.", ".stem.stem."): value for key, value in given.items()}
        given |= {f"text.{key}": value for key, value in tips.text.state_dict().items()}
        given["log_temperature"] = torch.tensor(math.log(tips.temperature))
        if not self.vision.appearance:
            given = {key: value for key, value in given.items() if not key.startswith("vision.appearance.")}
        token = self.vision.vit.cls_token.clone()
        unlike = [key for key in given if key not in wanted or wanted[key].shape != given[key].shape]
        if unlike:
            raise CheckpointError(
                f"{tips.name} has other shapes than this recipe ({unlike[0]}): start from a model of the same shapes"
            )
        self.load_state_dict(given, strict=False)
        own = self.vision.vit.cls_token
        own.add_(token * own.std() / token.std())
        stem = self.vision.stem
        assert isinstance(stem, TrainedStem)
        for conv, norm in zip(stem.stem.convs, stem.norms, strict=True):
            y = conv(x)
            assert isinstance(norm, nn.BatchNorm2d)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            variance, mean = torch.var_mean(y, dim=(0, 2, 3), correction=0)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.bias.copy_(mean)
            norm.weight.copy_((variance + norm.eps).sqrt())
            y = F.relu(y)
            x = x + y if conv.stride == (1, 1) else y

    @property
    def temperature(self) -> Tensor:
        """What cosines are divided by before a softmax, in [0.01, 1]."""
        return self.log_temperature.exp().clamp(0.01, 1.0)

    def tips(self, tokenizer: Tokenizer, name: str) -> Tips:
        """Return a copy as the agent loads it: norms folded, weights frozen."""
        student = copy.deepcopy(self).eval()
        assert isinstance(student.vision.stem, TrainedStem)
        student.vision.stem = student.vision.stem.folded()
        return (
            Tips(student.vision, student.text, tokenizer, float(self.temperature.detach()), name)
            .eval()
            .requires_grad_(False)
        )
