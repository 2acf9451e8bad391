"""`trainer pretrain`: train the embedded model on procedural pictures."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from edge_agent.commands.arguments import seed
from trainer.pretrain.recipe import Recipe


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer pretrain`."""
    recipe = Recipe()
    pretrain = commands.add_parser(
        "pretrain",
        help="train the embedded model on procedural pictures; on several GPUs: torchrun --nproc-per-node N -m trainer pretrain ...",
    )
    pretrain.add_argument(
        "--out", type=Path, required=True, help="folder of the run; a run that is there already is resumed"
    )
    pretrain.add_argument(
        "--start", type=Path, help="folder of an embedded model to start from (default: random weights)"
    )
    pretrain.add_argument(
        "--teacher",
        type=Path,
        help="arrays (.npz) of the first stages of resnet50-v2, whose features of each patch are learnt too",
    )
    pretrain.add_argument(
        "--materials",
        type=Path,
        help="folder of photographed materials for some surfaces and parts, as `trainer materials` writes it",
    )
    pretrain.add_argument(
        "--average-with",
        type=Path,
        nargs="+",
        default=[],
        metavar="MODEL",
        help="folders of embedded models of the same descent, whose weights are averaged with the run's at the end",
    )
    pretrain.add_argument(
        "--steps", type=int, default=recipe.steps, help="optimizer steps in all (default %(default)s)"
    )
    pretrain.add_argument(
        "--decay-steps",
        type=int,
        default=recipe.decay_steps,
        help="the last steps, over which the learning rate falls to 0 (default %(default)s)",
    )
    pretrain.add_argument(
        "--small-steps",
        type=int,
        default=recipe.small_steps,
        help="the first steps, on smaller views (default %(default)s)",
    )
    pretrain.add_argument(
        "--pool",
        type=int,
        default=recipe.pool,
        help="good pictures to make; each use cuts one and may paint a defect on it (default %(default)s)",
    )
    pretrain.add_argument("--batch", type=int, default=recipe.batch, help="views a step (default %(default)s)")
    pretrain.add_argument("--rate", type=float, default=recipe.rate, help="highest learning rate (default %(default)s)")
    pretrain.add_argument(
        "--seed", type=seed, default=recipe.seed, help="seed of all random numbers (default %(default)s)"
    )
    pretrain.add_argument("--workers", type=int, default=1, help="processes that make pictures (default 1)")
    pretrain.add_argument("--threads", type=int, help="threads of the training itself (default: as many as cores)")
    pretrain.set_defaults(
        run=_pretrain,
        kept=lambda options: f"{options.out} keeps the state that was saved last: give the same command to go on",
    )


def _pretrain(options: argparse.Namespace) -> int:
    import torch

    from edge_agent.backbones.tips.files import TOKENIZER
    from trainer.io.processes import rank
    from trainer.pretrain.loop import Inputs, pretrain
    from trainer.pretrain.package import write_embedded_model
    from trainer.pretrain.pool import make_pool

    if options.threads:
        torch.set_num_threads(options.threads)
    known = {field.name for field in fields(Recipe)}
    recipe = Recipe(**{key: value for key, value in vars(options).items() if key in known})
    tips = pretrain(
        recipe,
        options.out,
        options.workers,
        inputs=Inputs(options.start, options.teacher, options.materials, tuple(options.average_with)),
        report=lambda row: print({key: round(value, 4) for key, value in row.items()}, flush=True),
    )
    if rank() > 0:
        return 0
    pool = make_pool(
        options.out / "pool", recipe.pool, recipe.image_size + 32, recipe.seed, materials=options.materials
    )
    folder, vocabulary = options.out / "embedded", options.out / TOKENIZER
    figures = write_embedded_model(tips, vocabulary.read_bytes(), pool, recipe, folder)
    for name, value in figures.items():
        print(f"{name}: {value:.1f}")
    print(f"wrote the model to {folder}")
    return 0
