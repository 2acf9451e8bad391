"""`edge-agent models`: the known backbones, and how to get one."""

from __future__ import annotations

import argparse
from pathlib import Path

from edge_agent.commands.exits import OK
from edge_agent.detectors.methods import METHODS


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `edge-agent models`."""
    models = commands.add_parser("models", help="list the known backbones, or fetch one")
    models.set_defaults(run=_models)
    models.add_argument(
        "--folder",
        type=Path,
        help="where backbones lie (default: this machine's folder and the user's "
        "own; a fetch puts them into the machine's for who may write there, such as root)",
    )
    models.add_argument(
        "--methods", action="store_true", help="list the methods instead: paper, licence, cost and purpose"
    )
    actions = models.add_subparsers(metavar="ACTION")
    fetch = actions.add_parser("fetch", help="download official weights, or take them from a folder or a mirror")
    fetch.add_argument("name", help="as `edge-agent models` lists or describes it")
    fetch.add_argument(
        "--from", dest="source", metavar="PLACE", help="folder or http(s) mirror, for factories without internet"
    )
    fetch.set_defaults(run=_fetch)


def _models(options: argparse.Namespace) -> int:
    from edge_agent.backbones.weights.listing import list_models, table, unlisted
    from edge_agent.backbones.weights.store import search_folders

    if options.methods:
        print(method_table())
        return OK
    print(table(list_models([options.folder] if options.folder else search_folders())))
    print(f"\n{unlisted()}")
    return OK


def _fetch(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from edge_agent.backbones.weights.fetch import fetch
    from edge_agent.backbones.weights.store import default_folder, own_folder, shared_folder

    bars: dict[str, tqdm] = {}

    def progress(file: str, done: int, total: int | None) -> None:
        if file not in bars:
            bars[file] = tqdm(desc=file, total=total, unit="B", unit_scale=True, disable=None)
        bars[file].total = total
        bars[file].update(done - bars[file].n)

    folder = fetch(options.name, into=options.folder or default_folder(), source=options.source, progress=progress)
    for bar in bars.values():
        bar.close()
    print(f"{options.name} is in {folder}")
    if own_folder() in folder.parents:
        print(
            f"a service does not look there: for one, say sudo edge-agent models fetch {options.name} --from {own_folder()}, "
            f"which copies it to {shared_folder()}"
        )
    return OK


def method_table() -> str:
    """Return all methods as text, one line each below a heading; what each needs beside its backbone is in the third column."""
    rows = [("NAME", "METHOD", "NEEDS", "COST", "PAPER", "LICENCE", "FOR")]
    for one in METHODS.values():
        needs = "good parts" if one.from_good_parts else "checkpoint" if one.fitted else "nothing"
        needs += (" on CLIP" if one.on_clip else "") + (", may have good parts" if one.few_shot else "")
        rows.append((one.name, one.title, needs, one.cost, one.paper, one.licence, one.purpose))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
