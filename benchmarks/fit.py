"""Measure the seconds of a fit with cached features, and of the plain loop: python -m benchmarks.fit.

The plain loop runs the backbone in every step, and text at full length. Both fit the same method on the same pictures at the
same precision, one after the other, and must end at the same loss. The lower bound is one pass of the vision tower over the
pictures. Seconds are processor time on a CPU, as other work on the machine does not change that, and wall time on a GPU.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import edge_agent
from benchmarks.results_file import commit
from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.backbones.tips.model import TextShape, TextTower, Tips, VisionShape, VisionTower
from edge_agent.backbones.tokenizer import MAX_LENGTH, Tokenizer
from edge_agent.detectors.methods import lookup
from trainer import synthesis
from trainer.fit.feature_cache import cache_features
from trainer.fit.features import EncodeSettings, Features, FreshFeatures, LabelledPicture, encode
from trainer.fit.loop import Plan, fit
from trainer.fit.recipes import RECIPES

clock = time.perf_counter if torch.cuda.is_available() else time.process_time
SHAPES = {"tiny": (64, 2), "s14": (384, 12), "b14": (768, 12), "l14": (1024, 24)}  # width and depth; tiny is for trials


class Plain(Tips):
    """The same backbone as the authors' loops run it: text at full length, padding and all."""

    def encode_text(self, sentences: Sequence[str], prompt: Tensor | None = None) -> Tensor:
        """See Backbone."""
        text, tokenizer = self._texts()
        ids, paddings = (one.to(self.device) for one in tokenizer(sentences))
        x = text.token_embedding(ids) * text.shape.width**0.5
        padding = paddings.bool()
        if prompt is not None:
            x = torch.cat([prompt.expand(len(x), -1, -1), x], dim=1)[:, :MAX_LENGTH]
            padding = torch.cat([padding.new_zeros(len(x), len(prompt)), padding], dim=1)[:, :MAX_LENGTH]
        return text.encode(x, padding)

    def encode_prompts(self, prompts: Tensor, deep: Tensor | None = None) -> Tensor:
        """See Backbone."""
        B, L, W = prompts.shape
        padded = torch.cat([prompts, prompts.new_zeros(B, MAX_LENGTH - L, W)], dim=1)
        padding = torch.arange(MAX_LENGTH, device=prompts.device).expand(B, -1) >= L
        return self._texts()[0].encode(padded, padding, deep)


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds in all, seconds until the features were there, and the mean loss of the last epoch."""

    seconds: float
    features: float
    loss: float


def backbone(size: str, kind: type[Tips]) -> Tips:
    """A TIPS of that size with weights drawn from a seed."""
    width, depth = SHAPES[size]
    torch.manual_seed(0)
    vision = VisionTower(VisionShape(width, depth, 4 * width, 32))
    text = TextTower(TextShape(width, 12, 4 * width, 32000))
    torch.nn.init.normal_(text.token_embedding.weight, std=width**-0.5)
    tokenizer = Tokenizer(EMBEDDED_FOLDER / "tokenizer.model")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return kind(vision, text, tokenizer, 0.07, f"tips-{size}").eval().requires_grad_(False).to(device)


def pictures(count: int, side: int) -> list[LabelledPicture]:
    """Procedural ones, half of them with a defect."""
    drawn = [synthesis.sample(np.random.default_rng([7, number]), side) for number in range(count)]
    return [LabelledPicture(one.pixels, one.mask) for one in drawn]


def timed(name: str, tips: Tips, shown: list[LabelledPicture], view_side: int, epochs: int, dtype: torch.dtype) -> Took:
    """One fit; features are kept unless the backbone is a Plain one."""
    recipe = RECIPES[name]
    torch.manual_seed(0)
    method = lookup(name).fresh(tips, "object")
    view = EncodeSettings.of(method, view_side, view_side, dtype)
    begun = clock()
    kept: Features
    kept = (
        FreshFeatures(tips, shown, view) if isinstance(tips, Plain) else cache_features(tips, shown, len(shown), view)
    )
    features = clock() - begun
    losses: list[float] = []
    steps = -(-len(shown) // recipe.batch)
    with tqdm(total=epochs * steps, leave=False, disable=None) as bar:

        def report(step: int, parts: object) -> None:
            losses.append(parts["loss"])  # type: ignore[index]
            bar.update()

        fit(method, kept, Plan(recipe, epochs, recipe.batch), report=report)
    return Took(clock() - begun, features, float(np.mean(losses[-steps:])))


def floor(tips: Tips, shown: list[LabelledPicture], side: int, dtype: torch.dtype) -> float:
    """Seconds of one bare pass of the vision tower over all pictures."""
    begun = clock()
    for start in range(0, len(shown), 8):
        encode(tips, shown[start : start + 8], EncodeSettings(side, side, dtype=dtype))
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - begun


def main() -> None:
    """Print a table, and write it as Markdown where --out says."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--size", choices=SHAPES, default="s14")
    options.add_argument("--pictures", type=int, default=100)
    options.add_argument("--image-size", type=int, default=224)
    options.add_argument("--methods", default="tipsomaly,vip2clip,cops")
    options.add_argument("--only-kept", action="store_true", help="leave the plain loop out")
    options.add_argument("--out", type=Path, help="a Markdown file to add the table to")
    chosen = options.parse_args()
    dtype = torch.float16 if torch.cuda.is_available() else torch.float32
    shown = pictures(chosen.pictures, chosen.image_size)
    fast, plain = backbone(chosen.size, Tips), backbone(chosen.size, Plain)
    encode(fast, shown[:8], EncodeSettings(chosen.image_size, chosen.image_size, dtype=dtype))  # warms up
    for one in (fast, plain):
        one.encode_text(["object"])
    lines = [
        "| method | epochs | kept, s | of it features, s | one vision pass, s | plain, s | ratio | final loss, kept | plain |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in chosen.methods.split(","):
        epochs = RECIPES[name].epochs
        lowest = floor(fast, shown, chosen.image_size, dtype)
        kept = timed(name, fast, shown, chosen.image_size, epochs, dtype)
        row = f"| {name} | {epochs} | {kept.seconds:.1f} | {kept.features:.1f} | {lowest:.1f} | "
        if chosen.only_kept:
            row += f"- | - | {kept.loss:.4f} | - |"
        else:
            slow = timed(name, plain, shown, chosen.image_size, epochs, dtype)
            row += f"{slow.seconds:.1f} | {slow.seconds / kept.seconds:.1f} | {kept.loss:.4f} | {slow.loss:.4f} |"
        lines.append(row)
        print(row, flush=True)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    head = (
        f"{time.strftime('%Y-%m-%d')}, commit {commit() or 'unknown'}, edge-agent {edge_agent.__version__}, torch"
        f" {torch.__version__}, Python {platform.python_version()}, {where}, TIPS {chosen.size} with random weights,"
        f" {chosen.pictures} pictures at {chosen.image_size}:"
    )
    table = "\n".join([head, "", *lines, ""])
    print(table)
    if chosen.out:
        with chosen.out.open("a") as file:
            file.write(table + "\n")


if __name__ == "__main__":
    main()
