"""`trainer import`: make a checkpoint of the prompts that a method's authors publish."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_agent.backbones.families import forms
from edge_agent.commands.arguments import count
from edge_agent.detectors.methods import fitted_methods
from edge_agent.detectors.systems import DATASETS
from trainer.commands.output import writable


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer import`."""
    own = commands.add_parser("import", help="make a checkpoint of the prompts that a method's authors publish")
    own.add_argument("--method", choices=fitted_methods(), required=True, help="the method that the prompts are for")
    own.add_argument(
        "--from",
        dest="source",
        type=Path,
        required=True,
        metavar="FILE",
        help="the authors' .pth file, or the folder that holds only this one",
    )
    own.add_argument("--out", type=Path, required=True, help="the checkpoint, FILE.safetensors")
    own.add_argument("--backbone", help=f"{forms()} (default: the one its authors used)")
    own.add_argument("--trained-on", choices=DATASETS, help="the data set that they were trained on; needed for CoPS")
    own.add_argument(
        "--class-name", default="object", help="what your pictures show; only Tipsomaly uses it (default: object)"
    )
    own.add_argument(
        "--image-size", type=count, help="pixels a side (default: 518 or the nearest that the backbone can read)"
    )
    own.set_defaults(run=_import)


def _import(options: argparse.Namespace) -> int:
    from edge_agent.errors import EdgeAgentError
    from edge_agent.importing.checkpoint import ADVICE, import_checkpoint, read_published
    from edge_agent.importing.layouts import LAYOUTS
    from edge_agent.importing.published import prompts_file
    from edge_agent.inference.load import Loader

    writable(options.out)
    source = prompts_file(options.source)
    if options.out.resolve() == source.resolve():
        raise EdgeAgentError(f"{options.out}: would overwrite the authors' file: name another --out")
    published = read_published(source, options.method)
    usual = LAYOUTS[options.method].backbone
    backbone = Loader().backbone(options.backbone or usual, "cpu")
    import_checkpoint(
        published,
        backbone,
        options.out,
        trained_on=options.trained_on,
        class_name=options.class_name,
        image_size=options.image_size,
    )
    if backbone.name != usual:
        print(
            f"warning: the authors publish for {usual}; how good it is on {backbone.name}, only `trainer evaluate` tells",
            file=sys.stderr,
        )
    print(f"wrote the checkpoint to {options.out}")
    print(ADVICE)
    return 0
