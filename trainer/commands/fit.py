"""`trainer fit`: fit a method's prompts on labelled pictures, or on good ones alone."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.backbones.families import forms
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.commands.arguments import count, seed
from edge_agent.detectors.methods import DEFAULT_METHOD, fitted_methods
from edge_agent.errors import EdgeAgentError
from trainer.commands.output import bar, print_skipped, print_warnings, silent, writable

if TYPE_CHECKING:
    from tqdm import tqdm

    from trainer.commands.output import ProgressLines
    from trainer.fit.comparison import Comparison
    from trainer.fit.pictures import FitPictures


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer fit`."""
    fit = commands.add_parser("fit", help="fit a method's prompts on labelled pictures, or on good ones alone")
    fit.add_argument("--method", choices=fitted_methods(), default=DEFAULT_METHOD, help="default %(default)s")
    fit.add_argument("--backbone", default=EMBEDDED, help=f"{forms()} (default %(default)s)")
    pictures = fit.add_mutually_exclusive_group(required=True)
    pictures.add_argument(
        "--data", type=Path, help="labelled pictures: MVTec layout or meta.json; a category or a folder of categories"
    )
    pictures.add_argument(
        "--good", type=Path, help="a folder of good pictures of your part; defects are painted onto them"
    )
    fit.add_argument("--count", type=count, default=1000, help="pictures to paint with --good (default 1000)")
    fit.add_argument(
        "--turns",
        type=int,
        choices=range(1, 9),
        default=1,
        metavar="1..8",
        help="in how many of the eight ways to mirror and turn it each picture is used (default 1, as it is)",
    )
    fit.add_argument("--out", type=Path, required=True, help="the checkpoint, FILE.safetensors")
    fit.add_argument("--class-name", default="object", help="what the pictures show (default: object)")
    fit.add_argument("--epochs", type=count, help="default: as published, more for fewer pictures")
    fit.add_argument("--batch", type=count, help="pictures a step (default: as published, 8)")
    fit.add_argument("--image-size", type=count, help="pixels a side (default: 518, 224 for the embedded model)")
    fit.add_argument("--seed", type=seed, default=0, help="seed of all random numbers (default 0)")
    fit.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default auto")
    fit.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="of the vision tower (default auto: fp16 on a GPU, fp32 on a CPU)",
    )
    fit.add_argument(
        "--memory-gb", type=float, default=4.0, help="features larger than this go to files beside --out (default 4)"
    )
    fit.add_argument(
        "--save-every",
        type=float,
        default=20.0,
        metavar="SECONDS",
        help="how often the state is saved from which a killed fit resumes (default 20)",
    )
    fit.add_argument(
        "--force",
        action="store_true",
        help="write the checkpoint even if it is worse than what is there: the checkpoint at --out, or the model's own prompts",
    )
    fit.set_defaults(run=_fit, kept=_kept)


def _fit(options: argparse.Namespace) -> int:
    import time

    from edge_agent.inference.load import Loader, choose_device, choose_dtype
    from trainer.fit.checkpoint import FitProgress, FitRequest, fit_checkpoint
    from trainer.fit.comparison import reference_checkpoint
    from trainer.fit.turns import with_turns
    from trainer.io.processes import process_group

    writable(options.out)
    started = time.monotonic()
    with process_group() as part:
        backbone = Loader().backbone(options.backbone, options.device)
        request = FitRequest(
            options.method,
            options.class_name,
            options.epochs,
            options.batch,
            options.image_size,
            options.seed,
            choose_dtype(options.precision, choose_device(options.device)),
            options.memory_gb,
            options.save_every,
        )
        reference = reference_checkpoint(options.out, options.backbone, backbone)
        pictures = with_turns(_pictures(options, part, keep_apart=reference is not None), options.turns)
        rank, _ = part
        if not rank:
            print_warnings(pictures.doubts())
        encoding = silent() if rank else bar(pictures.count, "reading pictures")
        fitting: list[tqdm | ProgressLines] = []

        def step(number: int, total: int, losses: Mapping[str, float]) -> None:
            if not fitting:
                encoding.close()
                fitting.append(silent() if rank else bar(total, "fitting", "step"))
            fitting[0].set_postfix_str(" ".join(f"{name} {loss:.3f}" for name, loss in losses.items()), refresh=False)
            fitting[0].update(number - int(fitting[0].n))

        progress = FitProgress(encoding.update, step)
        result = fit_checkpoint(
            request, backbone, pictures, options.out, progress, reference=reference, force=options.force
        )
        for one in (encoding, *fitting):
            one.close()
    if rank == 0:
        print_skipped(result.skipped)
        print(f"fitted on {result.pictures} pictures, {result.steps} steps, {time.monotonic() - started:.0f} s")
        for name, value in result.figures.items():
            print(f"{name} on the pictures it was fitted on: {value:.1f}")
        if result.comparison:
            print_comparison(result.comparison)
        if result.written:
            print(f"wrote the checkpoint to {options.out}")
        else:
            raise EdgeAgentError(
                f"{options.out}: not written, as the fitted prompts are worse than those that are there: add pictures, or give the same"
                " command with --force, which writes them at once"
            )
    return 0


def _pictures(options: argparse.Namespace, part: tuple[int, int], keep_apart: bool) -> FitPictures:
    """Return the pictures of the fit; with --force and too few to keep some apart, none are."""
    from trainer.fit.pictures import TooFewError, from_data, from_good

    def read(apart: bool) -> FitPictures:
        if options.data:
            return from_data(options.data, part, seed=options.seed, keep_apart=apart)
        return from_good(options.good, options.count, options.seed, part, keep_apart=apart)

    try:
        return read(keep_apart)
    except TooFewError:
        if not options.force:
            raise
        return read(False)


def print_comparison(comparison: Comparison) -> None:
    """Print the figures before and after side by side."""
    print(f"compared on {comparison.source}; before: {comparison.reference}")
    print(f"{'':14}{'before':>8}{'after':>8}")
    for name, before in comparison.before.items():
        print(f"{name.replace('_', ' ').replace('auroc', 'AUROC'):14}{before:8.1f}{comparison.after[name]:8.1f}")


def _kept(options: argparse.Namespace) -> str:
    """Say what an interrupted fit keeps."""
    from trainer.fit.checkpoint import state_folder

    work = state_folder(options.out)
    if not work.is_dir():
        return "nothing is kept yet: give the same command to start again"
    return f"{work} keeps the state of the last {options.save_every:g} s or so: give the same command to go on, or delete it to start again"
