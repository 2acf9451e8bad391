"""`trainer synthesize`: make a labelled set from good pictures, to look at and to fit on."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edge_agent.commands.arguments import count, seed, words
from trainer.commands.output import bar, print_skipped, writable_folder


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer synthesize`."""
    synthesize = commands.add_parser(
        "synthesize",
        help="make a labelled set: paint defects onto good pictures",
        description="Make a labelled set in MVTec layout by painting defects onto good pictures, and a page of samples to judge it by.",
    )
    synthesize.add_argument("--good", type=Path, required=True, help="a folder of good pictures of your part")
    synthesize.add_argument(
        "--out",
        type=Path,
        required=True,
        help="the set's folder: new or empty; a set that this command made is replaced",
    )
    synthesize.add_argument("--count", type=count, default=100, help="pictures with a defect (default 100)")
    synthesize.add_argument("--seed", type=seed, default=0, help="seed of all random numbers (default 0)")
    synthesize.add_argument(
        "--class-name",
        type=words,
        default="object",
        help="what the pictures show, as the set's category (default: object)",
    )
    synthesize.add_argument(
        "--workers", type=count, help="threads that paint; their number changes no picture (default: as many as CPUs)"
    )
    synthesize.set_defaults(run=_synthesize)


def _synthesize(options: argparse.Namespace) -> int:
    from trainer.data.examples import good_pictures
    from trainer.data.labelled_set import PAGE, category_of, make_set

    writable_folder(options.out.absolute())
    category = category_of(options.class_name)
    workers = options.workers or len(os.sched_getaffinity(0))
    with bar(len(good_pictures(options.good)) + options.count, category) as progress:
        made = make_set(options.good, options.out, category, options.count, options.seed, workers, progress.update)
    print_skipped(made.skipped)
    kinds = ", ".join(f"{number} {kind}" for kind, number in made.kinds.items())
    print(
        f"{made.train} good pictures in train, {made.test} in test; {sum(made.kinds.values())} with a defect: {kinds}"
    )
    print(f"the set {'is' if made.is_new else 'was already'} in {options.out}; look at {options.out / PAGE}")
    return 0
