"""`trainer reproduce`: a paper's protocol on the paper's own sets, beside its published figures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_agent.backbones.families import forms
from edge_agent.commands.arguments import count
from edge_agent.detectors.methods import METHODS, checkpoint_methods
from edge_agent.detectors.systems import DATASETS, SYSTEMS
from edge_agent.errors import EdgeAgentError
from trainer.commands.output import bar


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer reproduce`."""
    own = commands.add_parser("reproduce", help="measure a method on the papers' own sets, beside what was published")
    offered = [name for name, one in METHODS.items() if not one.from_good_parts]
    own.add_argument("--method", choices=offered, required=True, help="as `edge-agent models --methods` lists it")
    own.add_argument(
        "--data", type=Path, required=True, help="a public set as its owners publish it, or a folder of several"
    )
    for trained_on, dataset in DATASETS.items():
        own.add_argument(
            f"--{trained_on}",
            type=Path,
            metavar="FILE",
            help=f"checkpoint trained on {dataset} (default: what `edge-agent models fetch METHOD` made, of {', '.join(SYSTEMS)})",
        )
    own.add_argument("--backbone", help=f"{forms()} (default: the checkpoint's)")
    own.add_argument("--image-size", type=count, help="pixels a side at which pictures are read (default: as fitted)")
    own.set_defaults(run=_reproduce)


def _reproduce(options: argparse.Namespace) -> int:
    from edge_agent.detectors.header import read_header
    from trainer.data.public_sets import find_sets
    from trainer.evaluate.published import PAPERS, RUN_ANEW
    from trainer.evaluate.reproduce import reproduce, trained_on
    from trainer.evaluate.run import ModelChoice
    from trainer.report import tables

    fitted = options.method in checkpoint_methods() and METHODS[options.method].fitted
    paper = next((one for one in (*PAPERS, *RUN_ANEW) if one.method == METHODS[options.method].title), None)
    found = find_sets(options.data)
    system = SYSTEMS.get(options.method)
    choices: dict[str, ModelChoice] = {}
    for name in found:
        key = trained_on(name)
        checkpoint: Path | None = getattr(options, key)
        if fitted and checkpoint is None and (system is None or options.backbone not in (None, system.backbone)):
            raise EdgeAgentError(
                f"{name} is measured with prompts trained on {DATASETS[key]}: give them with --{key} FILE.safetensors, as"
                " `trainer fit` or `trainer import` makes it"
            )
        if checkpoint is not None and (own := read_header(checkpoint)["method"]) != options.method:
            raise EdgeAgentError(f"{checkpoint}: is of the method {own}, not of {options.method}")
        usual = read_header(checkpoint)["backbone"] if checkpoint else system.backbone if system else None
        model = options.backbone or usual
        if model is None:
            raise EdgeAgentError(f"{options.method} takes any backbone: name it with --backbone")
        choices[key] = ModelChoice(
            model,
            checkpoint,
            None if fitted else options.method,
            class_name=None,
            image_size=options.image_size,
            trained_on=key,
            squares=False,
        )
    if paper is None:
        print(f"no published figures of {METHODS[options.method].title} are known here", file=sys.stderr)
    else:
        print(f"published: {paper.method}, {paper.title}, {paper.source}")
    for known, folder in found.values():
        key = trained_on(known.name)
        said = f", prompts trained on {DATASETS[key]}" if fitted else ""
        print(f"\n{choices[key].model}{said}; {folder}")
        for line in tables.reproduced(reproduce(known, folder, choices[key], paper, bar)):
            print(line)
    return 0
