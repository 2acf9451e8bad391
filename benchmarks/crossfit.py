"""Fit each method on one set and measure it on the others, in both directions, beside methods that need no fitting.

    python -m benchmarks.crossfit --data DIR --work DIR [--backbone NAME] [--methods NAME ...] [--out FILE.md]

All methods that can be fitted on the backbone, if none is named: on a CLIP, all there are. DIR holds the sets, each in MVTec
layout; a set has its folder's name. Results that are already in the work folder, one for each backbone, are reused, so a stopped
run can be resumed.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import edge_agent
from benchmarks.results_file import commit
from edge_agent.backbones.clip.names import PREFIX
from edge_agent.backbones.tips.embedded import EMBEDDED, EMBEDDED_FOLDER
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_agent.detectors.methods import METHODS, fitted_methods
from trainer.cli import main as trainer
from trainer.evaluate.compare import compare
from trainer.evaluate.metrics import FIGURES
from trainer.evaluate.record import EvaluationRecord, read_evaluation

HEADS = ("image AUROC", "AP", "F1-max", "pixel AUROC", "AUPRO", "F1-max", "AP")


def run(*words: str | Path) -> None:
    """Run one command of the trainer; exit the benchmark if it fails."""
    print("$ trainer", *words, flush=True)
    if trainer([str(word) for word in words]):
        raise SystemExit(1)


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured, and where the results are kept: backbone, methods that are fitted on it, folder."""

    backbone: str
    methods: Sequence[str]
    work: Path

    def fitted(self, method: str, data: Path) -> Path:
        """Return the checkpoint of a method fitted on a set."""
        out = self.work / f"{method}-{data.name}.safetensors"
        if not out.exists():
            own = ("--method", method, "--backbone", self.backbone, "--class-name", named(data))
            run("fit", *own, "--data", data, "--out", out, "--force")
        return out

    def evaluated(self, name: str, data: Path, *options: str | Path) -> EvaluationRecord:
        """Return the evaluation of that name, from an earlier run or measured now."""
        out = self.work / f"{name}-on-{data.name}.json"
        if not out.exists():
            own = ("--model", self.backbone, "--class-name", named(data))
            run("evaluate", "--data", data, *own, "--baseline", "--json", out, *options)
        return read_evaluation(out)


def unfitted(work: Path) -> Path:
    """Tipsomaly with its fixed prompts for patches too: the shipped checkpoint, less all that was learnt."""
    out = work / "fixed.safetensors"
    if not out.exists():
        shipped = load_checkpoint(EMBEDDED_FOLDER / "tipsomaly.safetensors")
        header = {**shipped.header, "fitted_on": "nothing"}
        save_checkpoint(
            Checkpoint(header, {**shipped.tensors, "learned": shipped.tensors["fixed.object"].clone()}), out
        )
    return out


def named(data: Path) -> str:
    """What the pictures of a set show."""
    return data.name.replace("_", " ")


def rows(data: Path, others: Sequence[Path], bench: Bench) -> Iterator[str]:
    """The table of one set: detector, what it was fitted on, its figures, and what fitting gave over fixed prompts.

    Fixed are Tipsomaly's own sentences for Tipsomaly on the embedded backbone, plain ones for all else.

    Args:
        data: the set.
        others: the sets that methods are fitted on.
        bench: what is measured.
    """
    plain = bench.evaluated("clip", data, "--method", "clip")
    assert plain.baseline is not None
    yield row("local contrast, nothing learnt", plain.baseline.mean.figures.values())
    yield row("clip: plain prompts", plain.measured.mean.figures.values())
    winclip = bench.evaluated("winclip", data, "--method", "winclip")
    yield row("winclip: windows, many sentences", winclip.measured.mean.figures.values())
    fixed = plain
    if bench.backbone == EMBEDDED:
        fixed = bench.evaluated("fixed", data, "--checkpoint", unfitted(bench.work))
        yield row("tipsomaly, fixed prompts alone", fixed.measured.mean.figures.values())
        shipped = bench.evaluated("shipped", data)
        yield change(row("tipsomaly, as shipped", shipped.measured.mean.figures.values()), fixed, shipped)
    for other in others:
        for method in bench.methods:
            one = bench.evaluated(f"{method}-{other.name}", data, "--checkpoint", bench.fitted(method, other))
            figures = one.measured.mean.figures.values()
            line = row(f"{method}, fitted on {named(other)}", figures)
            yield change(line, fixed if method == "tipsomaly" else plain, one)


def row(name: str, figures: object) -> str:
    """One line of the table, without what fitting gave."""
    return f"| {name} | " + " | ".join("-" if one.value is None else f"{one.value:.1f}" for one in figures) + " |"  # type: ignore[attr-defined]


def change(line: str, plain: EvaluationRecord, one: EvaluationRecord) -> str:
    """The line with the points that it has more than fixed prompts, image and pixel AUROC, and their 95 % intervals."""
    found = next(iter(compare(plain, one).rows.values()))
    told = []
    for name in ("image_auroc", "pixel_auroc"):
        by = found[name].change
        told.append(f"{by.value:+.1f} ({by.low:+.1f} to {by.high:+.1f})")
    return f"{line} {' | '.join(told)} |"


def main() -> None:
    """Fit and measure what is missing, print the tables, and write them as Markdown where --out says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--sets", nargs="+", default=["magnetic_tile", "cookie", "hazelnut_toy"])
    options.add_argument("--backbone", default=EMBEDDED)
    options.add_argument(
        "--methods", nargs="+", choices=fitted_methods(), help="default: all that the backbone can be read by"
    )
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    on_clip = chosen.backbone.startswith(PREFIX)
    able = [name for name in fitted_methods() if on_clip or not METHODS[name].on_clip]
    bench = Bench(chosen.backbone, chosen.methods or able, chosen.work)
    chosen.work.mkdir(parents=True, exist_ok=True)
    sets = [chosen.data / name for name in chosen.sets]
    lines = [
        f"{time.strftime('%Y-%m-%d')}, commit {commit() or 'unknown'}, edge-agent {edge_agent.__version__}, torch"
        f" {torch.__version__}, Python {platform.python_version()}, {bench.backbone} backbone."
    ]
    for data in sets:
        good_bad = next(iter(bench.evaluated("clip", data, "--method", "clip").measured.categories.values()))
        lines += ["", f"### On {named(data)}: {good_bad.good} good, {good_bad.defective} defective", ""]
        lines += [f"| | {' | '.join(HEADS)} | image AUROC over fixed prompts | pixel AUROC over fixed prompts |"]
        lines += ["|" + "---|" * (len(FIGURES) + 3)]
        for line in rows(data, [other for other in sets if other != data], bench):
            lines.append(line if line.count("|") > len(FIGURES) + 2 else f"{line} | |")
    print("\n".join(lines))
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
