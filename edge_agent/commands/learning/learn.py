"""`edge-agent learn`: have a station's bank learn from what people said of its inspections, or go back."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.arguments import config_option
from edge_agent.commands.exits import OK, REFUSED
from edge_agent.commands.learning.label import FILE_OF_LABELS, recording, said_in, who, who_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.config.config import Config
    from edge_agent.learn.candidate import Candidate
    from edge_agent.learn.gate import Compared

SHOWN = 20  # pictures with another verdict that are printed


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `edge-agent learn`."""
    learn = commands.add_parser(
        "learn",
        help="have a station's bank of good parts learn from false alarms and missed defects, beside a running agent",
        description="Make a bank that has learnt all labels since the last one, compare both on all labelled pictures and the last"
        " 1000 kept ones, and take it into use unless something stands against it: a defect that would no longer be found, more false"
        " alarms than promised, or too many other verdicts. Exit code 3: something does.",
    )
    config_option(learn)
    learn.add_argument("--station", help="needed where the config has several")
    what = learn.add_mutually_exclusive_group()
    what.add_argument("--labels", type=Path, metavar="FILE", help=f"record these labels first: {FILE_OF_LABELS}")
    what.add_argument(
        "--back",
        nargs="?",
        const="",
        metavar="WHICH",
        help="go back to an earlier checkpoint: its file's name or the beginning of its digest (default: the one before)",
    )
    learn.add_argument("--dry-run", action="store_true", help="show what would change, and write nothing")
    who_option(learn)
    learn.set_defaults(run=_learn)


def _learn(options: argparse.Namespace) -> int:
    from edge_agent.config.load import default_path, load_config

    path = options.config or default_path()
    config = load_config(path)
    if options.back is not None:
        return _back(config, path, options)
    return _forward(config, path, options)


def _back(config: Config, path: Path, options: argparse.Namespace) -> int:
    from edge_agent.learn.station_files import station_files
    from edge_agent.page.changes import changes_of, learning

    station = config.station(options.station)
    files = station_files(path, station)
    if options.dry_run:
        print(f"would go back to {files.earlier(options.back or None)[0]}")
        return OK
    files.require_writable()
    earlier = files.earlier(options.back or None)[0]
    with changes_of(config).recording(learning(who(options), station.name, files.checkpoint.name, earlier.name)):
        files.back(earlier.name)
    print(f"{path} names {earlier} again")
    _print_reload(config)
    return OK


def _forward(config: Config, path: Path, options: argparse.Namespace) -> int:
    from edge_agent.journal.labels import open_labels
    from edge_agent.journal.reader import open_reader
    from edge_agent.learn.candidate import make_candidate
    from edge_agent.learn.label_file import as_labels, news, read_labels
    from edge_agent.learn.station_files import station_files
    from edge_agent.page.changes import changes_of, learning

    station, url = config.station(options.station), config.database.full_url()
    files = station_files(path, station)
    if not options.dry_run:
        files.require_writable()
    said = []
    with open_reader(url) as reader, open_labels(url) as labels:
        if options.labels:
            new = news(read_labels(options.labels, reader, station.name), labels)
            said = as_labels(new, labels, station.name, who(options))
            if not options.dry_run and new:
                with recording(new, labels, config, who(options)):
                    said = labels.say_all(new, who(options))
            print(f"{'would record' if options.dry_run else 'recorded'}: {said_in(new)}")
        made = make_candidate(config, path, station.name, said=said if options.dry_run else (), reading=_progress)
        for sentence in made.left_out:
            print(f"left out: {sentence}", file=sys.stderr)
        if not made.changes:
            print(f"nothing to learn: {files.checkpoint.name} has learnt all that was said")
            return OK
        _print(made)
        if made.objections:
            for sentence in made.objections:
                print(f"refused: {sentence}", file=sys.stderr)
            print(f"{station.name} stays as it is")
            return REFUSED
        if options.dry_run:
            print("nothing was written (--dry-run)")
            return OK
        learnt = learning(who(options), station.name, files.checkpoint.name, made.checkpoint.sha256[:12])
        with changes_of(config).recording(learnt):
            file = made.use(labels)
    print(f"{path} names {file}; `edge-agent learn --back` returns to {files.checkpoint.name}")
    _print_reload(config)
    return OK


def _progress(total: int) -> Callable[[int], object]:
    print(f"reading {total} pictures twice", file=sys.stderr)
    return lambda count: None


def _print(made: Candidate) -> None:
    from edge_agent.journal.rows import LabelValue

    learnt = made.found.to_learn
    brought = {str(one["inspection"]): int(one["rows"]) for one in made.checkpoint.header["corrections"]}
    patches = sum(brought.get(one.inspection.id, 0) for one in learnt)
    size = len(made.checkpoint.tensors["bank"]) + len(made.checkpoint.tensors["defects"])
    print(
        f"learnt: {len(learnt)} labels, {patches} patches; taken back: {len(made.found.withdrawn)}; bank: {size} patches"
    )
    good = [one for one in made.compared if one.said is LabelValue.GOOD]
    defects = [one for one in made.compared if one.said is LabelValue.DEFECT]
    last = [one for one in made.compared if one.evidence]
    flipped = [one for one in made.compared if one.flipped]
    print(f"{'':30}{'before':>8}{'after':>8}")
    for words, some, wrong in (
        (f"of {len(good)} good parts rejected", good, True),
        (f"of {len(defects)} defects missed", defects, False),
    ):
        print(f"{words:30}{_count(some, 'before', wrong):8}{_count(some, 'after', wrong):8}")
    print(f"{sum(one.flipped for one in last)} of the last {len(last)} kept pictures get another verdict")
    for one in flipped[:SHOWN]:
        print(f"  {one.line}")
    if len(flipped) > SHOWN:
        print(f"  and {len(flipped) - SHOWN} more")


def _count(some: list[Compared], when: str, not_ok: bool) -> int:
    return sum((one.before if when == "before" else one.after) is not_ok for one in some)


def _print_reload(config: Config) -> None:
    print("a running agent takes it up when it reloads: systemctl reload edge-agent, or SIGHUP to its process")
