"""Compare a bank of good parts with anomalib's PatchCore on the same trunk, weights, layers, side, rows and pictures, on the CPU.

    uv venv anomalib-env && uv pip install --python anomalib-env/bin/python anomalib timm
    python -m benchmarks.anomalib_bank --data DIR --anomalib anomalib-env/bin/python [--shots 16] [--rows 3000]

The trunk is timm's efficientnet_lite0 with our weights; it pads as torch does, as anomalib cannot trace TensorFlow's padding.
Both read the same squares of the same decoded pictures, one picture at a time, in turn in one run; each in a process of its own
environment, as anomalib is no dependency of this project. Good parts are drawn as benchmarks/good_parts.py draws them, the first
draw of half a. Prints image AUROC in percent, seconds to build a bank (one bank: ours without the folds of a calibration) and
milliseconds to read a picture; of both the wall clock's and, in brackets, the processor's, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.embedded import half
from edge_agent.backbones.families import family_of
from edge_agent.detectors.checkpoint import Checkpoint
from edge_agent.detectors.patchcore import PatchCore, default_layers
from edge_agent.inference.detector import PromptDetector
from edge_agent.inference.load import Loader
from edge_agent.inference.squares import SquaresDetector, squares
from edge_agent.io.pictures import decode
from trainer.bank.bank import SIZE
from trainer.bank.coreset import coreset
from trainer.bank.good_parts import described
from trainer.data.examples import read_examples
from trainer.evaluate.metrics import auroc

CHILD = Path(__file__).with_name("anomalib_child.py")
TRUNK = "efficientnet-lite0"
# anomalib compares on the grid of the first layer: the same layers as ours give it a quarter of our patches, as it does not
# enlarge both; with stage 3 in place of 4 it has as many.
LAYERS = ((4, 6), (3, 6))


def main() -> None:
    """Print two rows for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--anomalib", type=Path, required=True, help="the interpreter of an environment that has it")
    parser.add_argument("--sets", nargs="+", default=["cookie", "commutator", "hazelnut_toy"])
    parser.add_argument("--shots", type=int, default=16, help="good parts shown; of fewer, all but four")
    parser.add_argument("--rows", type=int, default=SIZE)
    options = parser.parse_args()
    print(f"{TRUNK}, {torch.get_num_threads()} threads, {options.rows} rows at most")
    for name in options.sets:
        _compare(options.data / name, options)


def _compare(category: Path, options: argparse.Namespace) -> None:
    examples = read_examples(category)
    spare = [one.picture for one in read_examples(category, "train")] if (category / "train").is_dir() else []
    good = sorted(spare or [one.picture for one in examples if not one.defective])
    shots = min(options.shots, len(good) - 4 * (not spare))
    shown = [good[at] for at in np.random.default_rng([0, shots]).permutation(len(good))[:shots]]
    others = [one for one in examples if one.picture not in shown and half(one.picture.name) == "a"]
    truth = np.array([one.defective for one in others])
    pictures = {path: decode(path) for path in [*shown, *(one.picture for one in others)]}
    ours = _ours([pictures[path] for path in shown], [pictures[one.picture] for one in others], options.rows)
    found = {"edge-agent": ours}
    with TemporaryDirectory() as folder:
        for layers in LAYERS:
            title = f"anomalib {','.join(map(str, layers))}"
            found[title] = _theirs(pictures, shown, [one.picture for one in others], options, Path(folder), layers)
    print(
        f"{category.name}: {shots} good parts shown, {int((~truth).sum())} good and {int(truth.sum())} defective read"
    )
    for name, one in found.items():
        wall, busy = one["build_s"]
        read, read_busy = one["read_ms"]
        print(
            f"  {name:12} image AUROC {auroc(truth, np.array(one['scores'])):5.1f}  {one['rows']} rows built in"
            f" {wall:5.1f} s ({busy:5.1f})  read in {read:6.1f} ms ({read_busy:6.1f})",
            flush=True,
        )


def _ours(shown: list[np.ndarray], others: list[np.ndarray], rows: int) -> dict[str, Any]:
    backbone = Loader().backbone(TRUNK, "cpu")
    side, layers = backbone.image_size, default_layers(backbone)
    described(backbone, shown[0], side, layers)
    started, busy = time.perf_counter(), time.process_time()
    bank = coreset(torch.cat([described(backbone, pixels, side, layers).rows for pixels in shown]), rows)
    built = time.perf_counter() - started, time.process_time() - busy
    method = PatchCore(backbone, bank, layers)
    header = {"method": method.name, "backbone": backbone.name, "backbone_sha256": backbone.sha256, "image_size": side}
    header |= {"threshold": 0.5, "map_threshold": 0.5}
    detector = SquaresDetector(
        PromptDetector(backbone, Checkpoint(header | method.settings(), method.tensors()), "object")
    )
    detector.read(shown[:1])
    started, busy = time.perf_counter(), time.process_time()
    scores = [detector.read([pixels])[0].score for pixels in others]
    read = time.perf_counter() - started, time.process_time() - busy
    return {
        "rows": len(bank),
        "build_s": built,
        "read_ms": [1e3 * one / len(others) for one in read],
        "scores": scores,
    }


def _theirs(
    pictures: dict[Path, np.ndarray],
    shown: list[Path],
    others: list[Path],
    options: argparse.Namespace,
    folder: Path,
    layers: tuple[int, ...],
) -> dict[str, Any]:
    """Run anomalib on the squares of the pictures, which are handed over as files in `folder`."""
    files: dict[Path, list[str]] = {}
    for number, (path, pixels) in enumerate(pictures.items()):
        files[path] = []
        for at, (top, bottom, left, right) in enumerate(squares(pixels.shape)):
            file = folder / f"{number}-{at}.npy"
            np.save(file, pixels[top:bottom, left:right])
            files[path].append(str(file))
    backbone = Loader().backbone(TRUNK, "cpu")
    shipped = family_of(TRUNK).catalog[TRUNK].shipped
    assert shipped is not None
    (weights,) = shipped.glob("*.pth")
    asked = {
        "trunk": "efficientnet_lite0",
        "weights": str(weights),
        "layers": [f"blocks.{layer - 1}" for layer in layers],
        "side": backbone.image_size,
        "rows": options.rows,
        "good": [files[path] for path in shown],
        "others": [files[path] for path in others],
    }
    run = subprocess.run(
        [options.anomalib, CHILD], input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(run.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
