"""Measure the shipped model on real pictures, for the tables of its model card; run it whenever its weights change.

    python -m benchmarks.shipped --data DIR [--write]

DIR holds `magnetic_tile`, `cookie` and `hazelnut_toy` in MVTec layout. The figures go to benchmarks/results/shipped.json; --write
puts the tables made of them into the card. A test holds the card against this file, and the file against the shipped weights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.results_file import RESULTS, about, save
from edge_agent.backbones.tips.embedded import EMBEDDED, EMBEDDED_FOLDER
from edge_agent.detectors.checkpoint import load_checkpoint
from trainer.data.examples import categories, read_examples
from trainer.evaluate.run import ModelChoice, SetResults, measure_set

CARD = EMBEDDED_FOLDER / "README.md"
SETS = {  # by folder: how the card calls it, short and with its source
    "magnetic_tile": ("magnetic tiles", "magnetic tiles (Magnetic-tile-defect-datasets, a part)"),
    "cookie": ("cookies", "cookies (amazon-lookout-for-vision samples)"),
    "hazelnut_toy": ("toy hazelnuts", "toy hazelnuts (Intel, CC BY 4.0)"),
}
FIGURES_HEAD = "| set | good / defective | image | pixel | local contrast, image | local contrast, pixel |"
ERRORS_HEAD = "| set | good parts called defective | defects missed |"


class _Silent:
    def update(self, n: int) -> None:
        """Show nothing."""


def measured(results: SetResults) -> dict[str, Any]:
    """Return the figures of one set and of local contrast on it."""
    own, base = results.model[0], results.baseline[0]
    names = ("image_auroc", "pixel_auroc")
    return {
        "good": own.good,
        "defective": own.defective,
        **{
            name: [round(float(x), 2) for x in (f.value, f.low, f.high)]
            for name, f in own.figures.items()
            if name in names
        },
        "contrast": {name: round(base.figures[name].value, 2) for name in names},
        "false_alarms": own.false_alarms,
        "missed": own.defective - own.found,
    }


def figure_rows(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the rows of the card's first table. found: what shipped.json holds."""
    image, pixel = (found["procedural"][name] for name in ("image_auroc", "pixel_auroc"))
    yield f"| procedural, other defects on the pool's pictures | 1,000 in all | {image:.1f} | {pixel:.1f} | - | - |"
    sets = [found["sets"][name] for name in SETS]
    for name, one in zip(SETS, sets, strict=True):
        own = " | ".join("{:.1f} ({:.1f}-{:.1f})".format(*one[key]) for key in ("image_auroc", "pixel_auroc"))
        base = " | ".join(f"{one['contrast'][key]:.1f}" for key in ("image_auroc", "pixel_auroc"))
        yield f"| {SETS[name][1]} | {one['good']} / {one['defective']} | {own} | {base} |"
    means = [sum(one[key][0] for one in sets) / len(sets) for key in ("image_auroc", "pixel_auroc")]
    means += [sum(one["contrast"][key] for one in sets) / len(sets) for key in ("image_auroc", "pixel_auroc")]
    yield f"| mean of the three | | {' | '.join(f'{one:.1f}' for one in means)} |"


def error_rows(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the rows of the card's second table: errors at the threshold that the model comes with."""
    for name, (short, _) in SETS.items():
        one = found["sets"][name]
        yield f"| {short} | {_of(one['false_alarms'], one['good'])} | {_of(one['missed'], one['defective'])} |"


def with_tables(card: str, found: Mapping[str, Any]) -> str:
    """Return the card with both tables made of `found`; rows that are not made here stay."""
    for head, rows in ((FIGURES_HEAD, list(figure_rows(found))), (ERRORS_HEAD, list(error_rows(found)))):
        before, _, after = card.partition(head + "\n")
        rule, *lines = after.split("\n")
        card = "\n".join([before + head, rule, *rows, *lines[len(rows) :]])
    return card


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every set and save the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shipped")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    choice = ModelChoice(EMBEDDED)
    sets = {}
    for name in SETS:
        examples = categories(read_examples(options.data / name))
        results = measure_set(examples, choice, baseline=True, start_bar=lambda total, what: nullcontext(_Silent()))
        sets[name] = measured(results)
        print(name, json.dumps(sets[name]), flush=True)
    info = choice.detector(EMBEDDED).info
    found = {
        **about("torch", "numpy", "opencv-python"),
        "model_sha256": info.model_sha256,
        "checkpoint_sha256": info.checkpoint_sha256,
        "procedural": load_checkpoint(EMBEDDED_FOLDER / "tipsomaly.safetensors").header["metrics"],
        "sets": sets,
    }
    print("saved", save("shipped", found))
    if options.write:
        CARD.write_text(with_tables(CARD.read_text(), found))


def recorded() -> dict[str, Any]:
    """Return what shipped.json holds."""
    return dict(json.loads((RESULTS / "shipped.json").read_text()))


def _of(count: int, total: int) -> str:
    return f"{count or 'none'} of {total}"


if __name__ == "__main__":
    main()
