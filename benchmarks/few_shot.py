"""Compare the embedded model with a few-shot baseline: a few good pictures and an ImageNet trunk.

    python -m benchmarks.few_shot MODEL_FOLDER --teacher TRUNK.npz --data DIR [--shots 1 4 16] [--half a|b]

Scores a patch by its distance to the nearest patch of the good pictures, as PatchCore does (Roth et al., arXiv 2106.08265),
without its subsampling. The good pictures are the first by the hash of their name; neither side is measured on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.embedded import half, load, rank, scores
from edge_agent.backbones.resize import pictures_to_tensor
from edge_agent.core import Reading
from edge_agent.io.pictures import decode
from tests.detectors import SynchronousDetector, info
from trainer.data.examples import read_examples, read_mask
from trainer.evaluate.metrics import auroc
from trainer.pretrain.teacher import PATCH, Trunk

SIDE = 224


class NearestPatch(SynchronousDetector):
    """Distances in a trunk's features to the patches of good pictures. Satisfies core.Detector."""

    info = info("nearest patch", SIDE, threshold=None)

    def __init__(self, trunk: Trunk, good: Sequence[np.ndarray]) -> None:
        self.trunk = trunk
        self.memory = torch.cat([self._features(picture) for picture in good])  # (M, F)

    def _features(self, picture: np.ndarray) -> torch.Tensor:
        return self.trunk(pictures_to_tensor([picture], SIDE, torch.device("cpu")))[0]  # (N, F)

    def read(self, images: Sequence[np.ndarray], keep: Sequence[np.ndarray | None] | None = None) -> list[Reading]:
        """See core.Detector; keep is not looked at. Score: the largest distance of a patch."""
        return [self._read(image) for image in images]

    def _read(self, image: np.ndarray) -> Reading:
        far = torch.cdist(self._features(image), self.memory).amin(dim=1) / 4  # parts are unit: at most 2 sqrt(3)
        heatmap = far.view(SIDE // PATCH, SIDE // PATCH).numpy()
        smooth = cv2.GaussianBlur(cv2.resize(heatmap, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), (0, 0), 4)
        return Reading(float(heatmap.max()), smooth)


def main() -> None:
    """Print one row a set and number of shots: image / pixel AUROC of the model, then of the peer, on the same pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--half", choices=("a", "b"), default="a")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, trunk = load(options.model), Trunk(options.teacher)
    for category in sorted(path.parent for path in options.data.glob("*/test")):
        examples = read_examples(category)
        spare = sorted((one.picture for one in examples if not one.defective), key=lambda path: rank(path.name))
        spare = sorted((category / "train" / "good").glob("*"), key=lambda path: rank(path.name)) or spare
        for shots in options.shots:
            shown = set(spare[:shots])
            own = [one for one in examples if half(one.picture.name) == options.half and one.picture not in shown]
            defective = np.array([one.defective for one in own])
            if len(shown) < shots or defective.all():
                continue
            pictures = [decode(one.picture) for one in own]
            truth = np.stack([read_mask(one, SIDE) for one in own])
            row = f"{category.name:20} {options.half} {shots:3} shots {len(own):4}"
            for detector in (model, NearestPatch(trunk, [decode(path) for path in sorted(shown)])):
                found, maps = scores(detector, pictures, SIDE)
                row += f" | {auroc(defective, found):6.1f} {auroc(truth.ravel(), maps.ravel()):6.1f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
