"""`trainer station`: from pictures of good parts to a station that is ready to run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

from edge_agent.commands.arguments import seed, words
from trainer.commands.bank import ALIGN_HELP, SIZE_HELP, bank_size
from trainer.commands.calibrate import rate
from trainer.commands.output import bar, print_left_out, print_skipped, print_warnings, writable_folder


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer station`."""
    station = commands.add_parser(
        "station", help="make a station from pictures of good parts: try what there is, measure it, write the best"
    )
    parts = station.add_mutually_exclusive_group(required=True)
    parts.add_argument("--good", type=Path, help="a folder of pictures of good parts; 20 or more are better")
    parts.add_argument(
        "--add",
        type=Path,
        metavar="FOLDER",
        help="a folder of further good parts, for the station that is in --out: it keeps copies of those that it was made from",
    )
    station.add_argument(
        "--bad",
        type=Path,
        help="a folder of pictures of defective parts, to choose by (default: defects are painted onto the good ones)",
    )
    station.add_argument(
        "--name", help="of the station: letters, digits, - _ . (with --add: needed where the config has several)"
    )
    station.add_argument(
        "--class-name", type=words, help="what the pictures show (default: object; with --add: as the station says)"
    )
    station.add_argument(
        "--out", type=Path, required=True, help="the folder to write: config.yaml, bank, calibration and a page"
    )
    station.add_argument(
        "--try",
        dest="tried",
        type=Path,
        metavar="FOLDER",
        help="a folder of further pictures, inspected before and after; shown side by side in before-after.jpg",
    )
    station.add_argument(
        "--false-alarm-rate",
        type=rate,
        metavar="RATE",
        help="the share of good parts that may be called NotOK (default: 0.01, or the lowest that so many pictures allow)",
    )
    station.add_argument(
        "--trunk",
        action="append",
        default=[],
        metavar="NAME",
        help="a further model to try a bank on, such as wide-resnet50, once it is fetched; may be given several times",
    )
    station.add_argument("--size", type=bank_size, help=f"{SIZE_HELP}; with --add: as the station's bank")
    station.add_argument(
        "--time",
        type=minutes,
        metavar="MINUTES",
        help="also fit prompts on defects painted onto the good parts, within about this time; taken only if they are best on the"
        " defective parts of --bad",
    )
    station.add_argument("--align", action="store_true", help=f"{ALIGN_HELP} (with --add: as the station says)")
    station.add_argument("--seed", type=seed, default=0, help="seed of all random numbers (default 0)")
    station.set_defaults(run=_station, kept=_kept, written=False)


def minutes(text: str) -> float:
    """Parse a time in minutes, more than 0 and no more than a day."""
    with suppress(ValueError):
        value = float(text)
        if 0 < value <= 24 * 60:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes, such as 5")


def _station(options: argparse.Namespace) -> int:
    from edge_agent.config.load import load_config
    from edge_agent.errors import EdgeAgentError
    from edge_agent.inference.load import Loader
    from trainer.bank.bank import SIZE
    from trainer.data.examples import Skipped, defective_pictures, good_pictures, pictures_below
    from trainer.station import before_after
    from trainer.station import present as station_there
    from trainer.station.candidates import candidates, steps
    from trainer.station.choice import best, false_alarm_rate, measured
    from trainer.station.folder import (
        CONFIG,
        PAGE,
        earlier_config,
        last_number,
        require_outside,
        require_own_folder,
        write_station,
    )
    from trainer.station.pictures import picture_set
    from trainer.station.prompts import fitted_prompts
    from trainer.station.table import lines

    writable_folder(options.out)
    bad = defective_pictures(options.bad) if options.bad else []
    tried = pictures_below(options.tried) if options.tried else []
    if options.add:
        there = station_there.present_station(options.out, options.name)
        name, class_name = there.config.name, options.class_name or there.config.detector.class_name
        good, bad = [*there.good.values(), *good_pictures(options.add)], [*there.bad, *bad]
        print_warnings(there.cautions())
    else:
        there, name, class_name = None, options.name, options.class_name or "object"
        if not name:
            raise EdgeAgentError("--good makes a new station: give it a name with --name")
        require_own_folder(options.out, name)
        for folder in filter(None, (options.good, options.bad)):
            require_outside(folder, options.out)
        good = good_pictures(options.good)
    pictures = picture_set(good, bad, options.seed)
    print_left_out(pictures.skipped, pictures.copies)
    if pictures.left_out:
        print(f"{pictures.left_out} more good pictures are not used: so many add nothing but time", file=sys.stderr)
    allowed = false_alarm_rate(len(pictures.good), options.false_alarm_rate)
    _print_rate(options.false_alarm_rate, allowed, len(pictures.good))
    compared = there if there and there.compared else None
    size = options.size or (there.size if there else SIZE)
    loader = Loader()
    align = options.align or (there.align if there else False)
    more_trunks = [*options.trunk, *(there.trunks if there else [])]
    for trunk in more_trunks:
        loader.backbone(trunk)  # one that is not here is said at once
    further = len(pictures.good) + len(pictures.bad) if options.time else 0
    with bar(
        steps(pictures, more_trunks) + further + (compared.steps(pictures) if compared else 0), "trying"
    ) as progress:
        found = [
            measured(one, allowed)
            for one in candidates(pictures, class_name, size, options.seed, loader, progress.update, more_trunks, align)
        ]
        if options.time:
            prompts = fitted_prompts(pictures, class_name, 60 * options.time, options.seed, loader, progress.update)
            found += [measured(prompts, allowed)] if prompts else []
        as_it_is = None
        if compared:
            this = station_there.as_it_is(compared, pictures, options.seed, loader, progress.update)
            as_it_is = measured(this, allowed)
            found.append(as_it_is)
    chosen = best(found, pictures.painted)
    if not chosen.usable:
        raise EdgeAgentError(
            f"{options.good or options.add}: good parts reach the highest score there is, so no threshold rejects fewer than"
            f" {100 * float(allowed):.1f} in 100: take defective and unlike pictures out"
        )
    for line in lines(found, chosen, pictures):
        print(line)
    last = last_number(options.out, name)
    with _saying_what_is_kept(options):
        write_station(
            options.out,
            name,
            class_name,
            chosen,
            found,
            pictures,
            loader,
            adding=there is not None,
            parent_sha256=there.checkpoint_sha256() if there else None,
        )
        options.written = True
        if chosen is as_it_is:
            print(
                "Nothing that was tried is better than the station as it is: it keeps its checkpoint, with a new threshold."
            )
        if tried:
            before = there.config if there else before_after.as_shipped(name, class_name, options.out)
            after = load_config(options.out / CONFIG).station(name)
            skipped: list[Skipped] = []
            pairs = before_after.compared(tried, before, after, loader, skipped)
            print_skipped(skipped)
            print(f"\n{'before':12}  {'after':12}")
            for pair in pairs:
                was, now = pair.verdicts
                print(f"{was.value:12}  {now.value:12}  {pair.path.name}")
            if pairs:
                before_after.write_sheet(pairs, options.out / before_after.SHEET)
                print(f"side by side: {options.out / before_after.SHEET}\n")
    print(f"wrote {options.out}; every picture that it gets wrong: {options.out / PAGE}")
    if last:
        print(f"the station as it was: {earlier_config(options.out, last)}; to go back, copy it over {CONFIG}")
    print(f"to run it: edge-agent run --config {options.out / CONFIG}")
    return 0


def _kept(options: argparse.Namespace) -> str:
    """Say what an interrupted command leaves."""
    if options.written:
        return f"the station is complete in {options.out}; what was left was to inspect the pictures of --try"
    if (options.out / "config.yaml").exists():
        return f"the station in {options.out} looks as it did: give the same command to start again"
    return "no station was written: give the same command to start again"


@contextmanager
def _saying_what_is_kept(options: argparse.Namespace) -> Iterator[None]:
    """Add what there is now to an error inside the block, such as a full disk."""
    from edge_agent.errors import EdgeAgentError

    try:
        yield
    except EdgeAgentError as error:
        raise EdgeAgentError(f"{error}\n{_kept(options)}") from None


def _print_rate(asked: Fraction | None, allowed: Fraction, good: int) -> None:
    if asked is not None and allowed != asked:
        print(
            f"{good} good pictures cannot promise {float(100 * asked):.3g} % false alarms; the lowest they allow is"
            f" {float(100 * allowed):.3g} %",
            file=sys.stderr,
        )
