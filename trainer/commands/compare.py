"""`trainer compare`: compare two evaluations."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer compare`."""
    compare = commands.add_parser("compare", help="compare two evaluations of the same pictures")
    compare.add_argument(
        "first",
        type=Path,
        metavar="A.json",
        help="figures that `trainer evaluate --json` wrote",
    )
    compare.add_argument(
        "second", type=Path, metavar="B.json", help="the same, of another model, checkpoint or setting"
    )
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    from trainer.evaluate.compare import compare
    from trainer.evaluate.record import read_evaluation
    from trainer.report import tables

    for line in tables.differences(compare(read_evaluation(options.first), read_evaluation(options.second))):
        print(line)
    return 0
