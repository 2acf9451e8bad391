"""`trainer calibrate`: a threshold from good pictures, with a bound on the share of good parts that are called NotOK."""

from __future__ import annotations

import argparse
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.backbones.families import forms
from edge_agent.backbones.tips.embedded import EMBEDDED
from edge_agent.commands.arguments import count, windows, words
from edge_agent.detectors.methods import unfitted_methods
from trainer.commands.output import bar, print_left_out, print_warnings, writable

if TYPE_CHECKING:
    from trainer.calibrate.setup import ReadingSetup


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command line of `trainer calibrate`."""
    calibrate = commands.add_parser(
        "calibrate", help="find a threshold from good pictures, with a bound on false alarms"
    )
    pictures = calibrate.add_mutually_exclusive_group(required=True)
    pictures.add_argument("--good", type=Path, help="a folder of good pictures of the line, none of them fitted on")
    pictures.add_argument(
        "--labels",
        action="store_true",
        help="in place of --good and --bad: the kept pictures of the station of --config that people labelled as good and as defects",
    )
    calibrate.add_argument(
        "--false-alarm-rate",
        type=rate,
        required=True,
        metavar="RATE",
        help="the share of good parts that may be called NotOK; 0.001 takes 999 pictures",
    )
    calibrate.add_argument(
        "--bad",
        type=Path,
        help="a folder of pictures of defective parts, to count how many the threshold misses (default: defects are painted onto"
        " good pictures)",
    )
    calibrate.add_argument(
        "--out", type=Path, required=True, help="the calibration, FILE.json; replaces an earlier one"
    )
    calibrate.add_argument("--model", help=f"backbone: {forms()} (default {EMBEDDED})")
    calibrate.add_argument("--checkpoint", type=Path, help="prompts fitted for it (default: the embedded model's own)")
    calibrate.add_argument(
        "--method",
        choices=unfitted_methods(),
        help="a method that needs no checkpoint, in place of one",
    )
    calibrate.add_argument(
        "--class-name",
        type=words,
        help="what the pictures show (default: what the checkpoint was fitted on, else object)",
    )
    calibrate.add_argument("--image-size", type=count, help="pixels a side at which they are read (default: as fitted)")
    calibrate.add_argument(
        "--windows", type=windows, help="windows along each side to read besides the whole picture (default: none)"
    )
    calibrate.add_argument(
        "--config", type=Path, help="read pictures as a station of this file does, instead of the six options above"
    )
    calibrate.add_argument("--station", help="the station of the config; needed when it has several")
    calibrate.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    from trainer.calibrate.calibration import make_calibration, require_replaceable, write_calibration
    from trainer.calibrate.conformal import pictures_needed
    from trainer.calibrate.missed import MOST_PAINTED, bad_scores, missed, painted_scores
    from trainer.calibrate.readings import read_pictures
    from trainer.calibrate.summary import summary
    from trainer.data.examples import defective_pictures, good_pictures

    rate = options.false_alarm_rate
    writable(options.out)
    require_replaceable(options.out)
    if options.labels:
        paths, bad = _labelled(options)
    else:
        paths = good_pictures(options.good)
        bad = defective_pictures(options.bad) if options.bad else []
    setup = _setup(options)
    with bar(len(paths), "good pictures") as progress:
        readings = read_pictures(setup, paths, pictures_needed(rate), report=progress.update)
    print_left_out(readings.skipped, readings.copies)
    calibration = make_calibration(setup, readings, rate)
    if bad:
        with bar(len(bad), "defective pictures") as progress:
            bad_readings = read_pictures(setup, bad, 0, report=progress.update)
        print_left_out(bad_readings.skipped, bad_readings.copies)
        defective = bad_scores(bad_readings, options.bad or options.config)
    else:
        broken = {one.path for one in readings.skipped}
        whole = [path for path in paths if path not in broken]
        with bar(min(len(whole), MOST_PAINTED), "painted defects") as progress:
            defective = painted_scores(setup, whole, report=progress.update)
    write_calibration(calibration, options.out)
    for line in summary(calibration, readings, rate):
        print(line)
    for line in missed(calibration.threshold, defective):
        print(line)
    print(
        f"wrote calibration {calibration.id} to {options.out}; to use it, set calibration: {options.out} for the station"
    )
    return 0


def _labelled(options: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Return the kept pictures of a station that were said to be good, and those that were said to be defective."""
    from edge_agent.config.load import load_config
    from edge_agent.core import Evaluation
    from edge_agent.errors import EdgeAgentError
    from edge_agent.journal.labels import open_labels
    from edge_agent.journal.reader import open_reader
    from edge_agent.journal.rows import LabelValue
    from edge_agent.learn.corrections import corrections

    if not options.config:
        raise EdgeAgentError("--labels needs a --config: whose journal has them")
    if options.bad:
        raise EdgeAgentError(
            "--bad: with --labels, the defective pictures are those that were labelled so: leave it out"
        )
    config = load_config(options.config)
    url, station = config.database.full_url(), config.station(options.station).name
    with open_reader(url) as reader, open_labels(url) as labels:
        found = corrections(reader, labels, station, {})
    print_warnings(found.left_out)
    by_value: dict[LabelValue, list[Path]] = {LabelValue.GOOD: [], LabelValue.DEFECT: []}
    not_ok = 0
    for one in found.pictures.values():
        assert one.label is not None
        by_value[one.label.value].append(one.path)
        not_ok += one.label.value is LabelValue.GOOD and one.inspection.verdict.evaluation is Evaluation.NOT_OK
    good = by_value[LabelValue.GOOD]
    if not good:
        raise EdgeAgentError(f"station {station}: no kept picture was said to be good: label some, then calibrate")
    if not_ok:
        print_warnings(
            [
                f"{not_ok} of the {len(good)} good parts were false alarms: the promise holds for parts like these. Label all parts of a"
                " time, or the threshold becomes too high"
            ]
        )
    return good, by_value[LabelValue.DEFECT]


def _setup(options: argparse.Namespace) -> ReadingSetup:
    from edge_agent.errors import EdgeAgentError
    from trainer.calibrate.setup import setup_of_model, setup_of_station

    model = {
        name: getattr(options, name)
        for name in ("model", "checkpoint", "method", "class_name", "image_size", "windows")
        if getattr(options, name) is not None
    }
    if not options.config:
        if options.station:
            raise EdgeAgentError("--station needs a --config: the station is one of that file")
        return setup_of_model(**model)
    if model:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in model)
        raise EdgeAgentError(f"{flags}: with --config, the station says that: leave out one of them")
    return setup_of_station(options.config, options.station)


def rate(text: str) -> Fraction:
    """Parse a share between 0 and 1 of the command line."""
    # A Fraction, not a float: see threshold_rank.
    with suppress(ValueError, ZeroDivisionError):
        share = Fraction(text)
        if 0 < share < 1:
            return share
    raise argparse.ArgumentTypeError(
        f"{text!r} is no share between 0 and 1: give one such as 0.001, for one good part in a thousand"
    )
