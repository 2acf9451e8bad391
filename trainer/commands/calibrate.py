"""`trainer calibrate`: a threshold from good pictures, with a promise of how many good parts it will call NotOK."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.arguments import count, windows, words
from trainer.commands.output import bar, writable

if TYPE_CHECKING:
    from edge_agent.line.calibration import Calibration
    from trainer.calibrate import Seen, View


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command line of `trainer calibrate`."""
    calibrate = commands.add_parser("calibrate", help="a threshold from good pictures, with a bound on false alarms")
    calibrate.add_argument(
        "--good", type=Path, required=True, help="a folder of good pictures of the line, none of them fitted on"
    )
    calibrate.add_argument(
        "--false-alarm-rate",
        type=_rate,
        required=True,
        metavar="RATE",
        help="the share of good parts that may be called NotOK; 0.001 takes 999 pictures",
    )
    calibrate.add_argument(
        "--out", type=Path, required=True, help="the calibration, FILE.json; replaces an earlier one"
    )
    calibrate.add_argument("--model", help="backbone: a name of `edge-agent models`, or a folder (default embedded)")
    calibrate.add_argument("--checkpoint", type=Path, help="prompts fitted for it (default: the embedded model's own)")
    calibrate.add_argument(
        "--method",
        choices=("clip", "winclip"),
        help="plain prompts or WinCLIP, which need no checkpoint, in place of one",
    )
    calibrate.add_argument("--class-name", type=words, help="what is in the pictures (default: object)")
    calibrate.add_argument("--image-size", type=count, help="pixels a side at which they are read (default: as fitted)")
    calibrate.add_argument("--windows", type=windows, help="windows read besides, along each side (default: none)")
    calibrate.add_argument("--config", type=Path, help="look as a station of this file does, instead of all these")
    calibrate.add_argument("--station", help="which station of the config; needed when it has several")
    calibrate.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    from trainer.calibrate import calibration_of, look, needed, require_replaceable, write_calibration
    from trainer.data.examples import good_pictures

    rate = options.false_alarm_rate
    writable(options.out)
    require_replaceable(options.out)
    paths = good_pictures(options.good)
    view = _view(options)
    with bar(len(paths), "good pictures") as progress:
        seen = look(view, paths, needed(rate), report=progress.update)
    for one in seen.skipped:
        print(f"skipped {one.path}: {one.reason}", file=sys.stderr)
    for copy, first in seen.copies:
        print(f"skipped {copy}: the same picture as {first}", file=sys.stderr)
    made = calibration_of(view, seen, rate)
    write_calibration(made, options.out)
    for line in _said(made, seen, rate):
        print(line)
    print(
        f"the calibration is {options.out}, and {made.id} its name: a station takes it with calibration: {options.out}"
    )
    return 0


def _view(options: argparse.Namespace) -> View:
    """What looks at the pictures: the station of a config, or what the command line names."""
    from edge_agent import build
    from edge_agent.config.load import load_config
    from edge_agent.errors import EdgeAgentError
    from edge_agent.inference.load import Loader
    from trainer.calibrate import View

    named = [
        name
        for name in ("model", "checkpoint", "method", "class_name", "image_size", "windows")
        if getattr(options, name) is not None
    ]
    if not options.config:
        if options.station:
            raise EdgeAgentError("--station needs a --config: the station is one of that file")
        class_name = options.class_name or "object"
        model = options.model or "embedded"
        loader = Loader()
        whole = loader.detector(
            model, options.checkpoint, class_name, method=options.method, image_size=options.image_size
        )
        return View(loader.windowed(whole, options.windows or 1), class_name)
    if named:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in named)
        raise EdgeAgentError(f"{flags}: with --config, the station says that: leave out one of them")
    config = load_config(options.config)
    station = config.station(options.station)
    # Its earlier calibration, which this one may be there to replace, need not fit its checkpoint any more.
    built = build.station(station.model_copy(update={"calibration": None}), build.loader(config), config.sha256)
    return View(
        built.detector,
        station.detector.class_name,
        station.include,
        station.ignore,
        built.keep,
        max_megapixels=config.limits.max_megapixels,
        bit_depth=station.source.bit_depth,
        batch=config.limits.batch_size,
    )


def _said(made: Calibration, seen: Seen, rate: Fraction) -> Iterator[str]:
    """What the calibration promises, in plain words."""
    from trainer.calibrate import interval, left_out, percent, rank, tied

    n, m = seen.n, rank(seen.n, rate)
    low, high = map(percent, interval(n, m))
    reach, lit = int((seen.scores >= made.threshold).sum()), int((seen.peaks >= (made.map_threshold or 1)).sum())
    yield f"calibrated on {n} good pictures{left_out(seen)}"
    yield f"threshold      {made.threshold:.4f}; {reach} of them reach it and would be NotOK"
    yield f"map threshold  {made.map_threshold:.4f}; {lit} of them reach it somewhere and would be outlined there"
    yield (
        f"promise        the next good part like these is called NotOK with a chance of at most {m} in {n + 1},"
        f" {percent(Fraction(m, n + 1))}; asked for: {percent(rate)}"
    )
    sure = f"at most {high}" if tied(seen.scores, m) else f"between {low} and {high}"
    yield f"this time      by the luck of these {n}, its own rate is {sure}, with 95 % confidence; more pictures narrow that"
    yield "it holds       while parts, camera, light, polygons and checkpoint stay as they are"
    if lit >= m:
        yield f"but            no map threshold keeps good parts dark: {lit} of them light up as high as maps go"


def _rate(text: str) -> Fraction:
    # Exactly as it is written: see rank() for why.
    with suppress(ValueError, ZeroDivisionError):
        rate = Fraction(text)
        if 0 < rate < 1:
            return rate
    raise argparse.ArgumentTypeError(
        f"{text!r} is no share between 0 and 1, such as 0.001 for one good part in a thousand"
    )
