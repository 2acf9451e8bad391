"""`trainer bank`: a checkpoint with a bank or a memory of good parts, from their pictures."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_agent.backbones.families import forms
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.commands.arguments import count, seed, words
from edge_agent.detectors.methods import few_shot_methods
from trainer.commands.output import bar, print_left_out, print_warnings, writable

TRUNK = "efficientnet-lite0"  # of a bank, unless said otherwise: it comes with the install
SIZE_HELP = (
    "patches that a bank holds at most (default 3000: with efficientnet-lite0 1.6 MB, and 10 ms of each picture's time on 2"
    " cores; 10000: 5.4 MB and 19 ms)"
)
ALIGN_HELP = (
    "move each part to where it lies in one of the good pictures before it is looked at, by up to 20 degrees and a fifth of the"
    " picture; for stiff parts that look alike. Masks move with the part"
)


def bank_size(text: str) -> int:
    """Parse how many patches a bank holds at most."""
    from trainer.bank.coreset import POOL

    size = count(text)
    if size > POOL:
        raise argparse.ArgumentTypeError(f"{size}: a bank is chosen from {POOL} patches, so it holds no more")
    return size


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer bank`."""
    bank = commands.add_parser(
        "bank", help="make a checkpoint that compares with a few good parts, from their pictures"
    )
    bank.add_argument("--good", type=Path, required=True, help="a folder of pictures of good parts; one is enough")
    bank.add_argument("--out", type=Path, required=True, help="the checkpoint, FILE.safetensors")
    which = bank.add_mutually_exclusive_group(required=True)
    which.add_argument("--method", choices=few_shot_methods(), help="a method that needs no fitted checkpoint")
    which.add_argument("--checkpoint", type=Path, help="a fitted one that the memory of good parts is added to")
    bank.add_argument("--model", help=f"backbone: {forms()} (default: the checkpoint's, or {TRUNK} for a bank)")
    bank.add_argument("--class-name", type=words, help="what the pictures show (default: as fitted, else object)")
    bank.add_argument("--image-size", type=count, help="pixels a side at which they are read (default: as fitted)")
    bank.add_argument("--size", type=bank_size, help=SIZE_HELP)
    bank.add_argument("--align", action="store_true", help=ALIGN_HELP)
    bank.add_argument("--seed", type=seed, default=0, help="of a bank's subset (default 0)")
    bank.set_defaults(run=_bank)


def _bank(options: argparse.Namespace) -> int:
    from edge_agent.detectors.checkpoint import load_checkpoint, save_checkpoint
    from edge_agent.detectors.patchcore import PatchCore
    from edge_agent.inference.load import Loader
    from edge_agent.io.files import write_errors
    from trainer.bank.kinds import said_of
    from trainer.bank.memory import bank_maker
    from trainer.data.examples import good_pictures
    from trainer.station.pictures import picture_set

    writable(options.out)
    base = load_checkpoint(options.checkpoint) if options.checkpoint else None
    method = str(base.header["method"]) if base else options.method
    usual = str(base.header["backbone"]) if base else TRUNK if method == PatchCore.name else EMBEDDED
    backbone = Loader().backbone(options.model or usual)
    class_name = options.class_name or (base.class_name if base else "object")
    make = bank_maker(
        method,
        base,
        backbone,
        class_name=class_name,
        image_size=options.image_size,
        size=options.size,
        align=options.align,
        seed=options.seed,
    )
    pictures = picture_set(good_pictures(options.good), [], options.seed)
    print_left_out(pictures.skipped, pictures.copies)
    print_warnings(pictures.differences())
    with bar(len(pictures.good), "reading") as progress:
        bank = make(pictures.good, report=progress.update)
    made = bank.checkpoint
    print_warnings(said_of(bank.kinds, [path.name for path in pictures.paths]))
    with write_errors(options.out, "free some space, or name another --out, and run the command again"):
        save_checkpoint(made, options.out)
    shown = len(pictures.good)
    print(
        f"wrote {options.out} of {shown} good part{'s' * (shown > 1)}, for the model {backbone.name}: its threshold"
        f" {made.header['threshold']:.3f} is where 1 in 100 good parts is expected; `trainer calibrate` makes it sure"
    )
    return 0
