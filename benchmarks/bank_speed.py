"""Time a bank of good parts on this CPU: every part of reading a picture, the search by cells beside all products, and memory.

    python -m benchmarks.bank_speed --good DIR [--rows 150 3000 10000] [--trunk efficientnet-lite0] [--pictures 24]

The bank is made from the pictures of DIR, so that its rows lie as those of parts do. Both ways to search take turns in one run,
and the best of each is taken: other programs only ever make one slower. End to end is decoding, reading and judging on as many
threads as torch has (OMP_NUM_THREADS). Memory is the peak of a process that loads the bank and reads two pictures.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from edge_agent.detectors.checkpoint import Checkpoint, save_checkpoint
from edge_agent.detectors.patchcore import PatchCore, default_layers, describe
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.io.pictures import decode
from edge_agent.kernels.cells import Cells
from edge_agent.kernels.fused import heatmaps
from edge_agent.kernels.nearest import nearest
from edge_agent.line.judge import Rules, judge
from trainer.bank.coreset import coreset
from trainer.bank.good_parts import described
from trainer.data.examples import good_pictures

RUNS = 12
READS = """
import resource, sys
from pathlib import Path
from edge_agent.inference.load import Loader
from edge_agent.io.pictures import decode
detector = Loader().detector(sys.argv[1], Path(sys.argv[2]), device="cpu")
detector.read([decode(Path(sys.argv[3]))] * 2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    """Print a block for each size of the bank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--good", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[150, 3000, 10000])
    parser.add_argument("--trunk", default="efficientnet-lite0")
    parser.add_argument("--pictures", type=int, default=24, help="of them the bank is made")
    options = parser.parse_args()
    threads = torch.get_num_threads()
    files = good_pictures(options.good)[: options.pictures + 1]
    backbone = Loader().backbone(options.trunk, "cpu")
    side, layers = backbone.image_size, default_layers(backbone)
    described_ones = [
        described(backbone, decode(file), side, layers) for file in files[1:]
    ]  # not of the one that is read
    patches = torch.cat([one.rows for one in described_ones])
    print(f"{options.trunk} at {side}, {threads} threads, {len(described_ones)} pictures, {len(patches)} patches")
    for size in options.rows:
        started = time.process_time()
        rows = coreset(patches, size)
        print(f"\n{len(rows)} rows, chosen in {time.process_time() - started:.1f} s of processor time")
        method = PatchCore(backbone, rows, layers)
        header = {"method": method.name, "backbone": backbone.name, "backbone_sha256": backbone.sha256}
        header |= {"image_size": side, "fitted_on": "good parts", "threshold": 0.5, "map_threshold": 0.5}
        checkpoint = Checkpoint(header | method.settings(), method.tensors())
        detector = PromptDetector(backbone, checkpoint, "object")
        picture = decode(files[0])
        print(f"  peak memory {_peak(checkpoint, files[0]) / 2**20:.0f} MB")
        _print_parts(detector, picture, rows.float())
        _print_rate(detector, files, threads)


def _print_parts(detector: PromptDetector, picture: object, rows: torch.Tensor) -> None:
    backbone, method, side = detector.method.backbone, detector.method, detector.info.image_size
    torch.set_num_threads(1)
    with torch.inference_mode():
        x = backbone.pictures([picture], side)
        features = detector.encode(x)
        patches = describe(features, method.layers)[0]
        cells = Cells(rows)
        scores = method.scores(method(features))
        found = _best(
            {
                "resize": lambda: backbone.pictures([picture], side),
                "trunk": lambda: detector.encode(x),
                "describe": lambda: describe(features, method.layers),
                "search by cells": lambda: cells.nearest(patches),
                "search by all products": lambda: nearest(patches, rows),
                "map": lambda: heatmaps(scores.patches, side, method.sigma),
            }
        )
        farther = cells.nearest(patches) / nearest(patches, rows).clamp(min=1e-3)
    for name, seconds in found.items():
        print(f"  {name:24} {1e3 * seconds:6.1f} ms of one core")
    ratio = found["search by all products"] / found["search by cells"]
    print(
        f"  cells are {ratio:.1f} times as fast as all products; distances longer by {100 * (farther.mean() - 1):.3f} %"
    )


def _best(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the least processor time in seconds of each step, the steps taking turns."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(RUNS):
        for name, step in steps.items():
            started = time.process_time()
            step()
            best[name] = min(best[name], time.process_time() - started)
    return best


def _print_rate(detector: PromptDetector, files: list[Path], threads: int) -> None:
    """Print pictures a second from file to verdict, in batches of four pictures a thread."""
    torch.set_num_threads(threads)
    batch = [files[at % len(files)] for at in range(4 * threads)]
    rules = Rules(0.5, 0.5)
    best = processor = float("inf")
    for _ in range(RUNS):
        started, busy = time.perf_counter(), time.process_time()
        pictures = [decode(file) for file in batch]
        for pixels, reading in zip(pictures, detector.read(pictures), strict=True):
            judge(reading, rules, pixels.shape)
        best = min(best, (time.perf_counter() - started) / len(batch))
        processor = min(processor, (time.process_time() - busy) / len(batch))
    print(f"  end to end: {1 / best:.0f} pictures a second, {1e3 * processor:.1f} ms of processor time a picture")


def _peak(checkpoint: Checkpoint, picture: Path) -> int:
    """Return the most memory in bytes of a process that reads a picture twice with a checkpoint."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "bank.safetensors")
        save_checkpoint(checkpoint, file)
        command = [sys.executable, "-c", READS, checkpoint.header["backbone"], file, picture]
        return 1024 * int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
