"""What each method costs: processor milliseconds a picture, on the embedded tower and on CLIP ViT-L/14's sizes.

    python -m benchmarks.methods [--out FILE.md] [--backbones NAME ...] [--side PIXELS] [--times N]

Processor time is counted, of all threads together, so that other work on the machine changes little. Weights of a tower that is
not here are random, and all prompts are as a fit begins with: the cost is true, the scores are not.
Which method is how good, `python -m benchmarks.crossfit` measures.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import edge_agent
from benchmarks.results_file import commit
from edge_agent.backbones.backbone import Backbone
from edge_agent.backbones.families import family_of
from edge_agent.backbones.weights.store import search_folders
from edge_agent.detectors.checkpoint import unfitted_checkpoint
from edge_agent.detectors.methods import METHODS
from edge_agent.diagnostics.bench import fresh
from edge_agent.errors import CheckpointError
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.image_size import default_side

BACKBONES = ("embedded", "clip:ViT-L-14-336/openai")


def tower(name: str) -> tuple[Backbone, str]:
    """Return the backbone of that name, with its own weights if they are here, and which these are."""
    try:
        return family_of(name).load(name, search_folders()), "its own weights"
    except CheckpointError:
        return family_of(name).random(name), "random weights"


def milliseconds(method: str, backbone: Backbone, side: int, times: int) -> float | None:
    """Return the median processor milliseconds of one picture; None where the method cannot read the backbone.

    Args:
        method: its name.
        backbone: the tower.
        side: in pixels, at which the picture is read.
        times: how many pictures are timed after a first one; 0 times the first one itself.
    """
    try:
        checkpoint = fresh(backbone, method, side) if METHODS[method].fitted else unfitted_checkpoint(method, backbone)
        detector = PromptDetector(backbone, checkpoint, "object", image_size=side)
    except CheckpointError:
        return None
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    taken = []
    for _ in range(times + 1):
        began = time.process_time()
        detector.read([picture])
        taken.append(1e3 * (time.process_time() - began))
    return statistics.median(taken[1:] or taken)


def main() -> None:
    """Measure, and print or write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument(
        "--side", type=int, help="pixels a side (default: as the papers, 518, the embedded tower's own)"
    )
    parser.add_argument(
        "--times",
        type=int,
        default=3,
        help="pictures timed after a first one (default 3); 0: that one",
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    columns: dict[str, dict[str, float | None]] = {}
    with torch.inference_mode():
        for name in options.backbones:
            backbone, weights = tower(name)
            side = options.side or default_side(backbone)
            own = columns[f"{name}, {side} px, {weights}"] = {}
            for method in options.methods:
                own[method] = milliseconds(method, backbone, side, options.times)
                print(f"{name} {method}: {own[method] and round(own[method] or 0)} ms", flush=True)
                gc.collect()
            del backbone
    lines = [
        "# What each method costs",
        "",
        "    python -m benchmarks.methods --out FILE.md",
        "",
        f"Processor milliseconds a picture: {f'median of {options.times} after a first one' if options.times else 'of one picture'}.",
        f"{time.strftime('%Y-%m-%d')}, commit {commit()}, edge-agent {edge_agent.__version__}, torch {torch.__version__}.",
        "",
        f"| method | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for method in options.methods:
        cells = [f"{value:,.0f}" if (value := column[method]) is not None else "-" for column in columns.values()]
        lines.append(f"| {METHODS[method].title} (`{method}`) | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    if options.out:
        options.out.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
