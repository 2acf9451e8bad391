"""Compare an exported ONNX file under onnxruntime with torch on a CPU: speed, and the difference for each method.

Speed: the embedded detector, one thread each, pictures already resized, torch and onnxruntime in turns, medians. Difference:
every method is exported, with random weights where it needs a larger tower, and compared with torch.
Run: python -m benchmarks.onnx [--rounds 15] [--methods]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from benchmarks.results_file import about, save
from edge_agent.backbones.random_weights import random_backbone
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.detectors.methods import lookup
from edge_agent.diagnostics.bench import fresh
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.onnx import golden
from edge_agent.onnx.export import Graph, export, reference, resized
from edge_agent.onnx.run import OnnxFile

BATCHES = (1, 8)
SCALE, PROMPTS = 4, 16  # of random weights and fresh prompts, so that pictures and patches are told apart
METHODS = {
    "tipsomaly": ("tips-s14", 518),
    "clip": ("embedded", 224),
    "winclip": ("embedded", 224),
    "vip2clip": ("tips-s14", 224),
    "cops": ("tips-s14", 224),
    "vip2clip, CLIP": ("clip:ViT-B-32/openai", 256),
}


def in_turns(steps: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each, one after another so that what else the machine does meets all of them."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            if number:  # the first one warms up
                taken[name].append(1e3 * (time.perf_counter() - begun))
    return {name: statistics.median(each) for name, each in taken.items()}


def speed(rounds: int) -> list[dict[str, float]]:
    """A row a batch."""
    torch.set_num_threads(1)
    detector = Loader().detector(device="cpu", precision="fp32")
    file = OnnxFile(export(detector, Graph(detector), threshold=0.5, map_threshold=0.5).onnx, threads=1)
    shown = resized(detector, list(golden.source_pictures().values())[: max(BATCHES)])
    rows = []
    for batch in BATCHES:
        some = shown[:batch]
        images = list(some)
        ms = in_turns({"torch": lambda: detector.read(images), "onnxruntime": lambda: file.read_batch(some)}, rounds)  # noqa: B023  # called here
        rows.append({"batch": batch, **{f"{name}_ms": round(each, 2) for name, each in ms.items()}})
        rows[-1]["times_as_fast"] = round(ms["torch"] / ms["onnxruntime"], 2)
        print(" ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    return rows


def apart(label: str) -> dict[str, object]:
    """The largest differences of one method from torch, on four samples and one picture of noise."""
    name, size = METHODS[label]
    method = label.split(",")[0]
    if name == EMBEDDED:
        detector = Loader().detector(method=method, device="cpu", precision="fp32")
    else:
        backbone = random_backbone(name)
        with torch.no_grad():
            for weight in backbone.parameters():
                weight.mul_(SCALE if weight.ndim > 1 else 1)
        checkpoint = fresh(backbone, method, size)
        prompts = {key: PROMPTS * value for key, value in checkpoint.tensors.items()}
        detector = PromptDetector(backbone, replace(checkpoint, tensors=prompts), "object")
    graph = Graph(detector)
    shown = list(golden.source_pictures().values())
    pictures = resized(detector, [*shown[:3], shown[-1]])
    begun = time.perf_counter()
    made = export(detector, graph, threshold=0.5, map_threshold=0.5, batch=2 if lookup(method).fixed_batch else None)
    seconds = time.perf_counter() - begun
    scores, maps = OnnxFile(made.onnx, threads=1).read(pictures)
    wanted_scores, wanted_maps = reference(graph, pictures)
    row = {
        "method": label,
        "backbone": name,
        "image_size": size,
        "batch": made.metadata["batch"],
        "export_s": round(seconds, 1),
        "mb": round(len(made.onnx) / 1e6, 1),
        "scores_apart": float(np.abs(scores - wanted_scores).max()),
        "maps_apart": float(np.abs(maps - wanted_maps).max()),
        "maps_span": float(np.ptp(wanted_maps)),  # what random towers tell apart at all
        "operators": sorted(made.operators),
    }
    print(" ".join(f"{key} {value}" for key, value in row.items() if key != "operators"), flush=True)
    return row


def main() -> None:
    """Print a row each, and write benchmarks/results/onnx.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--methods", action="store_true", help="every method too: some minutes")
    options = parser.parse_args()
    rows = speed(options.rounds)
    methods = [apart(label) for label in METHODS] if options.methods else []
    save("onnx", {**about("torch", "onnx", "onnxruntime"), "threads": 1, "speed": rows, "methods": methods})


if __name__ == "__main__":
    main()
