"""The half of benchmarks/anomalib_bank.py that runs in anomalib's environment; it imports nothing of ours.

Reads a JSON object from stdin (trunk, weights, layers, side, rows, good, others: lists of lists of .npy files, the squares of
each picture), and prints one: seconds to build, milliseconds a picture, and the score of each of the others.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import torch
from anomalib.models.image.patchcore.torch_model import PatchcoreModel

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    """Build a bank and read pictures with it."""
    import timm

    asked = json.load(sys.stdin)
    trunk = timm.create_model(asked["trunk"]).eval()
    published = torch.load(asked["weights"], weights_only=True, map_location="cpu").values()
    trunk.load_state_dict(dict(zip(trunk.state_dict(), published, strict=True)))
    model = PatchcoreModel(layers=asked["layers"], backbone=trunk, pre_trained=False)
    side = asked["side"]
    pictures = {name: [np.load(file) for squares in asked[name] for file in squares] for name in ("good", "others")}

    def batch(views: list[np.ndarray]) -> torch.Tensor:
        x = torch.from_numpy(np.stack([np.ascontiguousarray(view) for view in views])).permute(0, 3, 1, 2)
        x = torch.nn.functional.interpolate(x, size=(side, side), mode="bilinear", antialias=True).float() / 255
        return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)

    with torch.inference_mode():
        model.train()
        model.feature_extractor.eval()
        started, busy = time.perf_counter(), time.process_time()
        for view in pictures["good"]:
            model(batch([view]))
        patches = sum(len(one) for one in model.embedding_store)
        model.subsample_embedding(min(1.0, (asked["rows"] + 0.5) / patches))
        built = time.perf_counter() - started, time.process_time() - busy
        model.eval()
        model(batch(pictures["good"][:1]))
        started, busy = time.perf_counter(), time.process_time()
        scores = [float(model(batch([view])).pred_score) for view in pictures["others"]]
        read = time.perf_counter() - started, time.process_time() - busy
    count, at, best = len(asked["others"]), 0, []
    for squares in asked["others"]:
        best.append(max(scores[at : at + len(squares)]))
        at += len(squares)
    print(
        json.dumps(
            {
                "rows": len(model.memory_bank),
                "build_s": built,
                "read_ms": [1e3 * one / count for one in read],
                "scores": best,
            }
        )
    )


if __name__ == "__main__":
    main()
