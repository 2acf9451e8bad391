"""A CLIP of a few thousand numbers beside CLIP's own vocabulary, under a name that open_clip then knows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from edge_agent.backbones.backbone import Preprocessing
from edge_agent.backbones.clip.model import Clip
from edge_agent.backbones.clip.weights import assembled
from edge_agent.backbones.families import FAMILIES
from edge_agent.backbones.family import Family
from edge_agent.backbones.vision_only import Trunk, VisionOnly
from edge_agent.detectors.clip.craneplus import GUIDE

MODEL = "ViT-tiny-8"
EVEN = "ViT-tiny-even24-8"  # its tokens are as long as its features
CONFIG: dict = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 4},
}


class TinyGuide(Trunk):
    """What Crane+ looks with besides, in place of DINOv2: the mean colour of each patch, and how bright it is."""

    channels = (4,)
    stride = CONFIG["vision_cfg"]["patch_size"]

    def forward(self, x: Tensor) -> list[Tensor]:
        """See Trunk."""
        colours = torch.nn.functional.avg_pool2d(x, self.stride)
        return [torch.cat([colours, colours.mean(dim=1, keepdim=True)], dim=1)]


class GuideFamily(Family):
    """Of that one, under the name that Crane+ asks for."""

    def knows(self, name: str) -> bool:
        """See Family."""
        return name == GUIDE

    def load(self, name: str, folders: Sequence[Path]) -> VisionOnly:
        """See Family."""
        return VisionOnly(name, TinyGuide(), 32, Preprocessing())


@cache
def register() -> None:
    """Make clip:ViT-tiny-8@FILE, the one with longer tokens, and a small guide for Crane+ known names in this process."""
    import open_clip

    FAMILIES.insert(0, GuideFamily())

    with tempfile.TemporaryDirectory() as folder:
        for model, config in ((MODEL, CONFIG), (EVEN, even())):
            path = Path(folder, f"{model}.json")
            path.write_text(json.dumps(config))
            open_clip.add_model_config(path)


def even(text_width: int = CONFIG["embed_dim"]) -> dict:
    """The configuration with tokens of another length."""
    return CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"width": text_width}}


def weights(seed: int = 0, config: dict = CONFIG) -> dict[str, Tensor]:
    """Return weights as a file holds them: random, in the range of trained ones."""
    from open_clip.model import CLIP

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {
            key: value.detach() + 0.02 * torch.randn_like(value) for key, value in CLIP(**config).state_dict().items()
        }


def tiny_clip(seed: int = 0, text_width: int = 16) -> Clip:
    """Build a CLIP that was never saved, so has no digest. text_width: of its tokens; its features are 24 long."""
    from open_clip.tokenizer import SimpleTokenizer

    config = even(text_width)
    model = assembled(config, weights(seed, config), "made here")
    return Clip(model, SimpleTokenizer(), f"clip:{MODEL}").eval().requires_grad_(False)


def saved(folder: Path, model: str = MODEL) -> str:
    """Save one in a folder and return the name by which every command takes it."""
    import safetensors.torch

    register()
    path = folder / f"{model}.safetensors"
    safetensors.torch.save_file(weights(config=CONFIG if model == MODEL else even()), path)
    return f"clip:{model}@{path}"
