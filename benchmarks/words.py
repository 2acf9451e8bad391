"""Measure what words mean to an embedded model: which defect, which product, and whether the map follows the words.

    python -m benchmarks.words MODEL_FOLDER

Procedural pictures that no training used, compared with chance. Words: "a photo of an object with a scratch" and the like.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.embedded import SEED, SIDE, load, procedural
from edge_agent.backbones.backbone import Backbone
from edge_agent.detectors.winclip import SIDES
from edge_agent.kernels import scoring
from trainer import synthesis
from trainer.synthesis.captions import with_article

EACH = 20  # pictures a kind
PAIRS = 400  # pictures with two kinds of defect


def kind_sentences() -> list[str]:
    """One for each kind of defect, in the order of their names."""
    return [
        f"a photo of an object with {with_article(synthesis.DEFECTS[kind].noun)}" for kind in sorted(synthesis.DEFECTS)
    ]


def covered(mask: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """(h, w) bool: patches of which the defect covers a fifth, or the most covered one."""
    share = cv2.resize(mask.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA)
    return torch.from_numpy(share >= min(0.2, share.max()))


@torch.inference_mode()
def seen(backbone: Backbone, pixels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Unit patches (h, w, D) and first class token (D,) of a picture."""
    features = backbone.encode_image(backbone.pictures([pixels], SIDE))
    return scoring.unit(features.patches[0]).unflatten(0, features.grid), scoring.unit(features.globals[0, 0])


def named(backbone: Backbone, text: Tensor) -> tuple[list[int], int]:
    """Of each defective picture, how many kinds its defective patches are nearer to than to their own; and how many kinds there are."""
    places = []
    for number, kind in enumerate(sorted(synthesis.DEFECTS)):
        for pixels, mask in procedural(kind, EACH):
            patches, _ = seen(backbone, pixels)
            likeness = (patches[covered(mask, patches.shape[:2])] @ text.T).mean(dim=0)
            places.append(int((likeness > likeness[number]).sum()))
    return places, len(text)


def products(backbone: Backbone, count: int) -> tuple[list[int], int]:
    """The same for the nouns of good pictures, by the first class token."""
    nouns, text = product_words(backbone)
    places = []
    for index in range(count):
        shown = synthesis.normal(np.random.default_rng([SEED, 99, index]), SIDE)
        _, token = seen(backbone, shown.pixels)
        likeness = token @ text.T
        places.append(int((likeness > likeness[nouns.index(shown.noun)]).sum()))
    return places, len(text)


def product_words(backbone: Backbone) -> tuple[list[str], Tensor]:
    """All nouns, and a sentence for each, unit (nouns, D)."""
    nouns = sorted(set(synthesis.NOUNS))
    return nouns, scoring.unit(backbone.encode_text([f"a photo of {with_article(noun)}" for noun in nouns]))


def beside(backbone: Backbone, count: int) -> list[list[bool]]:
    """Of two products beside each other: do the words for the left one, against the right one's, point at its half?

    By patches, then by windows of 2 x 2 and 3 x 3 patches, as WinCLIP reads them.
    """
    nouns, text = product_words(backbone)
    right = []
    for index in range(count):
        rng = np.random.default_rng([SEED, 97, index])
        shown = [synthesis.normal(rng, SIDE) for _ in range(2)]
        first, second = (nouns.index(one.noun) for one in shown)
        if first != second:
            halves = [cv2.resize(one.pixels, (SIDE // 2, SIDE), interpolation=cv2.INTER_AREA) for one in shown]
            x = backbone.pictures([np.hstack(halves)], SIDE)
            features = backbone.encode_image(x)
            maps = {1: features.patches[0].unflatten(0, features.grid)}
            maps |= {side: backbone.encode_windows(x, side)[0] for side in SIDES}
            middle = features.grid[1] // 2
            by_words = {side: scoring.unit(each) @ (text[first] - text[second]) for side, each in maps.items()}
            # A window that lies across the middle shows both.
            right.append(
                [bool(q[:, : middle - side + 1].mean() > q[:, middle:].mean()) for side, q in by_words.items()]
            )
    return right


def moved(backbone: Backbone, text: Tensor, count: int) -> list[bool]:
    """Of pictures with two kinds of defect: do the words for the one tell its place from the other's, against the other's words?"""
    kinds, right = sorted(synthesis.DEFECTS), []
    for index in range(count):
        rng = np.random.default_rng([SEED, 98, index])
        first, second = rng.choice(len(kinds), 2, replace=False)
        shown, donor = synthesis.normal(rng, SIDE), synthesis.normal(rng, SIDE).pixels
        pixels, one, _ = synthesis.paint_defect(rng, shown.pixels, shown.foreground, donor, kinds[first])
        pixels, other, _ = synthesis.paint_defect(rng, pixels, shown.foreground, donor, kinds[second])
        patches, _ = seen(backbone, synthesis.camera(rng, pixels))
        by_words = patches @ (text[first] - text[second])  # (h, w)
        here, there = (covered(mask, patches.shape[:2]) for mask in (one & ~other, other))
        if not (one & other).any():
            right.append(bool(by_words[here].mean() > by_words[there].mean()))
    return right


def share(places: Sequence[int], within: int) -> float:
    """Percent of those among the nearest `within`."""
    return 100 * float(np.mean([place < within for place in places]))


def main() -> None:
    """Print a row for each question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load(options.model).method.backbone
    with torch.inference_mode():
        text = scoring.unit(backbone.encode_text(kind_sentences()))
        for what, (places, of) in (("kind of defect", named(backbone, text)), ("product", products(backbone, 300))):
            told = ", ".join(
                f"among {within}: {share(places, within):.0f} % (chance {100 * within / of:.0f} %)"
                for within in (1, 3, 5)
            )
            print(f"{what:20} {len(places)} pictures, {of} words; {told}", flush=True)
        right = beside(backbone, PAIRS)
        shares = ", ".join(f"{100 * part:.0f} %" for part in np.mean(right, axis=0))
        print(
            f"{'two products':20} {len(right)} pictures; its own words point at it: {shares} (chance 50 %; by patches, by windows of"
            f" {SIDES[0]} x {SIDES[0]} and of {SIDES[1]} x {SIDES[1]})",
            flush=True,
        )
        right = moved(backbone, text, PAIRS)
        print(
            f"{'two defects':20} {len(right)} pictures; its own words point at it: {100 * np.mean(right):.0f} % (chance 50 %)"
        )


if __name__ == "__main__":
    main()
