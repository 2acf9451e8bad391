"""Fit each method on one set and measure it on the others, in both directions, beside methods that need no fitting.

    python -m benchmarks.crossfit --data DIR --work DIR [--out FILE.md]

DIR holds the sets, each in MVTec layout; a set has its folder's name. Results that are already in the work folder are
reused, so a stopped run can be resumed.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import edge_agent
from benchmarks.results_file import commit
from edge_agent.backbones.tips.embedded import EMBEDDED_FOLDER
from edge_agent.detectors.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from trainer.cli import main as trainer
from trainer.evaluate.compare import compare
from trainer.evaluate.metrics import FIGURES
from trainer.evaluate.record import EvaluationRecord, read_evaluation

METHODS = ("tipsomaly", "vip2clip", "cops")
HEADS = ("image AUROC", "AP", "F1-max", "pixel AUROC", "AUPRO", "F1-max", "AP")


def run(*words: str | Path) -> None:
    """Run one command of the trainer; exit the benchmark if it fails."""
    print("$ trainer", *words, flush=True)
    if trainer([str(word) for word in words]):
        raise SystemExit(1)


def fitted(method: str, data: Path, work: Path) -> Path:
    """Return the checkpoint of a method fitted on a set."""
    out = work / f"{method}-{data.name}.safetensors"
    if not out.exists():
        run("fit", "--method", method, "--data", data, "--class-name", named(data), "--out", out, "--force")
    return out


def evaluated(name: str, data: Path, work: Path, *options: str | Path) -> EvaluationRecord:
    """Return the evaluation of that name, from an earlier run or measured now."""
    out = work / f"{name}-on-{data.name}.json"
    if not out.exists():
        run("evaluate", "--data", data, "--class-name", named(data), "--baseline", "--json", out, *options)
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


def rows(data: Path, others: Sequence[Path], work: Path) -> Iterator[str]:
    """The table of one set: detector, what it was fitted on, its figures, and what fitting gave over fixed prompts.

    Fixed are Tipsomaly's own sentences for Tipsomaly, plain ones for the other two.
    """
    plain = evaluated("clip", data, work, "--method", "clip")
    assert plain.baseline is not None
    yield row("local contrast, nothing learnt", plain.baseline.mean.figures.values())
    yield row("clip: plain prompts", plain.measured.mean.figures.values())
    fixed = evaluated("fixed", data, work, "--checkpoint", unfitted(work))
    for name, one in (
        ("winclip: windows, many sentences", evaluated("winclip", data, work, "--method", "winclip")),
        ("tipsomaly, fixed prompts alone", fixed),
    ):
        yield row(name, one.measured.mean.figures.values())
    shipped = evaluated("shipped", data, work)
    yield change(row("tipsomaly, as shipped", shipped.measured.mean.figures.values()), fixed, shipped)
    for other in others:
        for method in METHODS:
            one = evaluated(f"{method}-{other.name}", data, work, "--checkpoint", fitted(method, other, work))
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
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    sets = [chosen.data / name for name in chosen.sets]
    lines = [
        f"{time.strftime('%Y-%m-%d')}, commit {commit() or 'unknown'}, edge-agent {edge_agent.__version__}, torch"
        f" {torch.__version__}, Python {platform.python_version()}, embedded backbone."
    ]
    for data in sets:
        good_bad = next(iter(evaluated("clip", data, chosen.work, "--method", "clip").measured.categories.values()))
        lines += ["", f"### On {named(data)}: {good_bad.good} good, {good_bad.defective} defective", ""]
        lines += [f"| | {' | '.join(HEADS)} | image AUROC over fixed prompts | pixel AUROC over fixed prompts |"]
        lines += ["|" + "---|" * (len(FIGURES) + 3)]
        for line in rows(data, [other for other in sets if other != data], chosen.work):
            lines.append(line if line.count("|") > len(FIGURES) + 2 else f"{line} | |")
    print("\n".join(lines))
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
