"""`edge-agent models`: the known backbones and published prompts, and how to get them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.exits import OK
from edge_agent.detectors.methods import METHODS
from edge_agent.detectors.systems import DATASETS, DEFAULT_DATASET, SYSTEMS, default_system

if TYPE_CHECKING:
    from edge_agent.backbones.weights.fetch import Progress


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
    fetch = actions.add_parser("fetch", help="download official weights and prompts, or take them from elsewhere")
    fetch.add_argument(
        "name",
        help=f"as `edge-agent models` lists or describes it: a backbone, or a method with published prompts ({', '.join(SYSTEMS)})",
    )
    fetch.add_argument(
        "--from", dest="source", metavar="PLACE", help="folder or http(s) mirror, for factories without internet"
    )
    fetch.set_defaults(run=_fetch)
    pack = actions.add_parser("pack", help="on a PC with internet: make the folder that `fetch --from` takes elsewhere")
    pack.add_argument("place", type=Path, metavar="FOLDER", help="made if it is not there; such as a USB stick's")
    pack.add_argument(
        "names", nargs="*", metavar="NAME", default=["tipsomaly"], help="as for fetch (default: tipsomaly)"
    )
    pack.add_argument(
        "--from", dest="source", metavar="PLACE", help="folder or http(s) mirror, in place of the owners'"
    )
    pack.set_defaults(run=_pack)


def _models(options: argparse.Namespace) -> int:
    from edge_agent.backbones.weights.listing import list_models, table, unlisted
    from edge_agent.backbones.weights.store import search_folders

    if options.methods:
        print(method_table())
        return OK
    folders = [options.folder] if options.folder else search_folders()
    print(table(list_models(folders)))
    print(f"\n{unlisted()}\n{prompts_table(folders)}")
    return OK


def _fetch(options: argparse.Namespace) -> int:
    from edge_agent.backbones.weights.download import Unreachable
    from edge_agent.backbones.weights.store import default_folder, own_folder, shared_folder
    from edge_agent.importing.fetch import fetch_files, make_checkpoints

    into = options.folder or default_folder()
    system = SYSTEMS.get(options.name) or default_system(options.name)
    backbone = system.backbone if system else options.name
    with _bars() as progress:
        folder = fetch_files(backbone, into=into, source=options.source, progress=progress)
    print(f"{backbone} is in {folder}")
    if system:
        try:
            with _bars() as progress:
                fetch_files(system.method, into=into, source=options.source, progress=progress)
        except Unreachable as error:
            if system.method == options.name:
                raise
            print(f"warning: without the prompts that are published for it: {error}", file=sys.stderr)
        else:
            print(
                f"making checkpoints of the prompts of {METHODS[system.method].title}: reading {backbone}", flush=True
            )
            for trained_on, path in zip(DATASETS, make_checkpoints(system, into), strict=True):
                if default_system(backbone) is not system:
                    used = "name it as checkpoint"
                elif trained_on == DEFAULT_DATASET:
                    used = f"taken for {backbone}"
                else:
                    used = f"taken with trained_on: {trained_on}"
                print(f"{path}: trained on {DATASETS[trained_on]}; {used}")
    if own_folder() in folder.parents:
        print(
            f"a service does not look there: for one, say sudo edge-agent models fetch {options.name} --from {own_folder()}, "
            f"which copies it to {shared_folder()}"
        )
    return OK


def _pack(options: argparse.Namespace) -> int:
    from edge_agent.importing.fetch import fetch_files

    for name in options.names:
        with _bars() as progress:
            fetch_files(name, into=options.place, source=options.source, progress=progress)
    print(f"{options.place} holds {', '.join(options.names)}. Take it to the other machine, and say there:")
    for name in options.names:
        print(f"  sudo edge-agent models fetch {name} --from {options.place}")
    return OK


@contextmanager
def _bars() -> Iterator[Progress]:
    """Give a function that shows a bar for each file on a terminal."""
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}

    def progress(file: str, done: int, total: int | None) -> None:
        if file not in bars:
            bars[file] = tqdm(desc=file, total=total, unit="B", unit_scale=True, disable=None)
        bars[file].total = total
        bars[file].update(done - bars[file].n)

    try:
        yield progress
    finally:
        for bar in bars.values():
            bar.close()


def prompts_table(folders: Sequence[Path]) -> str:
    """Return a line for every backbone with published prompts: whose they are, and which are here. folders: of all models."""
    lines = ["Published prompts:"]
    for one in SYSTEMS.values():
        here = [
            DATASETS[trained_on]
            for trained_on in DATASETS
            if any(one.checkpoint(folder, trained_on).is_file() for folder in folders)
        ]
        there = f"here: trained on {', '.join(here)}" if here else f"not fetched: edge-agent models fetch {one.method}"
        lines.append(
            f"{one.backbone}: {METHODS[one.method].title} ({one.prompts.holder}, {one.prompts.licence}), {there}"
        )
    return "\n".join(lines)


def method_table() -> str:
    """Return all methods as text, one line each below a heading; what each needs beside its backbone is in the third column."""
    rows = [("NAME", "METHOD", "NEEDS", "COST", "PAPER", "LICENCE", "FOR")]
    for one in METHODS.values():
        needs = "good parts" if one.from_good_parts else "checkpoint" if one.fitted else "nothing"
        needs += (" on CLIP" if one.on_clip else "") + (", may have good parts" if one.few_shot else "")
        rows.append((one.name, one.title, needs, one.cost, one.paper, one.licence, one.purpose))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
