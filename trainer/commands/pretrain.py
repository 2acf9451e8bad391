"""`trainer pretrain`: the embedded model, from pictures that nobody owns."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from edge_agent.commands.arguments import seed


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `trainer pretrain`."""
    pretrain = commands.add_parser(
        "pretrain",
        help="train the embedded model from pictures drawn by program; several GPUs: torchrun --nproc-per-node N -m trainer pretrain ...",
    )
    pretrain.add_argument("--out", type=Path, required=True, help="folder of the run; one that holds a run is resumed")
    pretrain.add_argument(
        "--start", type=Path, help="folder of an embedded model to begin with, instead of with nothing"
    )
    pretrain.add_argument(
        "--teacher",
        type=Path,
        help="arrays (.npz) of resnet50-v2's first stages, whose view of each patch is learnt too",
    )
    pretrain.add_argument(
        "--materials",
        type=Path,
        help="folder of photographed materials that some surfaces and parts are made of, as `trainer materials` writes it",
    )
    pretrain.add_argument(
        "--average-with",
        type=Path,
        nargs="+",
        default=[],
        metavar="MODEL",
        help="folders of embedded models of the same descent, whose weights are averaged with the run's in the end",
    )
    pretrain.add_argument("--steps", type=int, help="optimizer steps in all")
    pretrain.add_argument(
        "--decay-steps", type=int, help="the last steps, over which the learning rate falls to nothing"
    )
    pretrain.add_argument("--small-steps", type=int, help="the first steps, on smaller views")
    pretrain.add_argument("--pool", type=int, help="good pictures to make, which every use spoils afresh")
    pretrain.add_argument("--batch", type=int, help="pictures a step")
    pretrain.add_argument("--rate", type=float, help="highest learning rate")
    pretrain.add_argument("--seed", type=seed, help="decides everything")
    pretrain.add_argument("--workers", type=int, default=1, help="processes that make pictures (default 1)")
    pretrain.add_argument("--threads", type=int, help="threads of the training itself (default: all cores)")
    pretrain.set_defaults(run=_pretrain)


def _pretrain(options: argparse.Namespace) -> int:
    import torch

    from trainer.io.processes import rank
    from trainer.pretrain.loop import Given, Recipe, pretrain
    from trainer.pretrain.package import embed
    from trainer.pretrain.pool import make_pool

    if options.threads:
        torch.set_num_threads(options.threads)
    known = {field.name for field in fields(Recipe)}
    recipe = Recipe(**{key: value for key, value in vars(options).items() if key in known and value is not None})
    tips = pretrain(
        recipe,
        options.out,
        options.workers,
        given=Given(options.start, options.teacher, options.materials, tuple(options.average_with)),
        report=lambda row: print({key: round(value, 4) for key, value in row.items()}, flush=True),
    )
    if rank() > 0:
        return 0
    pool = make_pool(
        options.out / "pool", recipe.pool, recipe.image_size + 32, recipe.seed, materials=options.materials
    )
    figures = embed(tips, (options.out / "tokenizer.model").read_bytes(), pool, recipe, options.out / "embedded")
    for name, value in figures.items():
        print(f"{name}: {value:.1f}")
    print(f"the model lies in {options.out / 'embedded'}")
    return 0
