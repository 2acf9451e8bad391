"""`trainer fit`: fit a method's prompts on labelled pictures, or on good ones alone."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from edge_agent.backbones.families import forms
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.commands.arguments import count, seed
from edge_agent.detectors.methods import DEFAULT_METHOD, fitted_methods
from trainer.commands.output import print_skipped, print_warnings, writable


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
    fit.add_argument("--seed", type=seed, default=0, help="decides every random number (default 0)")
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
    fit.set_defaults(run=_fit)


def _fit(options: argparse.Namespace) -> int:
    import time

    from tqdm import tqdm

    from edge_agent.inference.load import Loader, choose_device, choose_dtype
    from trainer.fit.checkpoint import FitProgress, FitRequest, fit_checkpoint
    from trainer.fit.pictures import from_data, from_good
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
        pictures = with_turns(
            from_data(options.data, part)
            if options.data
            else from_good(options.good, options.count, options.seed, part),
            options.turns,
        )
        rank, _ = part
        if not rank:
            print_warnings(pictures.doubts())
        quiet = True if rank else None
        encoding = tqdm(total=pictures.count, desc="reading pictures", unit="picture", leave=False, disable=quiet)
        fitting: list[tqdm] = []

        def step(number: int, total: int, losses: Mapping[str, float]) -> None:
            if not fitting:
                encoding.close()
                fitting.append(tqdm(total=total, desc="fitting", unit="step", leave=False, disable=quiet))
            fitting[0].set_postfix_str(" ".join(f"{name} {loss:.3f}" for name, loss in losses.items()), refresh=False)
            fitting[0].update(number - fitting[0].n)

        result = fit_checkpoint(request, backbone, pictures, options.out, FitProgress(encoding.update, step))
        for bar in (encoding, *fitting):
            bar.close()
    if rank == 0:
        print_skipped(result.skipped)
        print(f"fitted on {result.pictures} pictures, {result.steps} steps, {time.monotonic() - started:.0f} s")
        for name, value in result.figures.items():
            print(f"{name} on the pictures it was fitted on: {value:.1f}")
        print(f"wrote the checkpoint to {options.out}")
    return 0
