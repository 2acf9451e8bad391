"""`edge-agent replay`: inspect stored pictures and videos as a station would."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands.arguments import count, fraction, seed, words
from edge_agent.commands.exits import FAILED, INTERRUPTED, OK
from edge_agent.commands.moments import moment
from edge_agent.commands.output import as_json, logging_to_stderr, one_line
from edge_agent.commands.signals import stopped_by_signals
from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from edge_agent.config.config import Config
    from edge_agent.config.detector import DetectorConfig
    from edge_agent.config.station import StationConfig

JOURNAL = "journal:"  # begins what names a station's kept pictures in place of a path


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    replay = commands.add_parser("replay", help="inspect stored pictures and videos, marked as simulated")
    replay.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="pictures, videos, folders or globs; journal:STATION for what was "
        "kept of a station's inspections, by --config, $EDGE_AGENT_CONFIG or ./config.yaml",
    )
    replay.add_argument("--since", type=moment, help="with journal:STATION, taken at this moment or later; see export")
    replay.add_argument("--until", type=moment, help="with journal:STATION, taken before this moment")
    replay.add_argument(
        "--config", type=Path, help="judge as a station of this file does; default: the embedded model as it comes"
    )
    replay.add_argument("--station", help="which station of the config; needed when it has several")
    replay.add_argument(
        "--class-name",
        type=words,
        help="what the pictures show, such as hazelnut (default: object, or as the config says)",
    )
    replay.add_argument(
        "--model", help="backbone, as in the config's detector.model (default: as the config says, else embedded)"
    )
    replay.add_argument("--checkpoint", type=Path, help="prompts that were fitted for it (default: as the config says)")
    replay.add_argument(
        "--every", type=count, default=1, metavar="N", help="of videos, take every N-th frame (default 1)"
    )
    judged = replay.add_mutually_exclusive_group()
    judged.add_argument(
        "--threshold", type=fraction, help="score in [0, 1] from which a picture is NotOK (default: as recommended)"
    )
    judged.add_argument("--calibration", type=Path, help="take the threshold from this calibration")
    replay.add_argument(
        "--out",
        type=Path,
        default=Path("replay-out"),
        help="folder for overlays, journal and contact sheet (default ./replay-out)",
    )
    replay.add_argument(
        "--again",
        action="store_true",
        help="inspect all of it again, and add to what is in --out (default: continue a replay by the same settings where it stopped)",
    )
    replay.add_argument(
        "--overlays",
        choices=("all", "not_ok", "none"),
        default="all",
        help="of which pictures to keep an overlay (default all; an archive is inspected sooner without those that are OK)",
    )
    replay.add_argument(
        "--workers",
        type=seed,
        metavar="N",
        help="processes that decode pictures ahead; 0 decodes in this one (default: half the cores, none for few pictures)",
    )
    replay.add_argument(
        "--distributed",
        metavar="ADDRESS",
        help="inspect pictures by the machines of the Ray cluster at this address, which find them and the model at the same "
        "paths; local: by a cluster of this machine alone; --workers are then the processes that inspect "
        "(needs pip install 'edge-agent[distributed]')",
    )
    replay.add_argument("--json", action="store_true", help="one JSON object a picture on stdout")
    replay.add_argument(
        "--publish", action="store_true", help="publish to the config's broker too, marked as simulated"
    )
    replay.set_defaults(run=_replay)


def _replay(options: argparse.Namespace) -> int:
    from edge_agent.config.config import Config
    from edge_agent.config.load import default_path, load_config

    recorded = [path.removeprefix(JOURNAL) for path in options.paths if path.startswith(JOURNAL)]
    if recorded and not options.config:
        options.config = default_path()
    if not recorded and (options.since or options.until):
        raise ConfigError("--since and --until go with journal:STATION: of files, name those that you mean")
    if options.config:
        config = load_config(options.config)
    else:
        config = Config.model_validate({"stations": [{"name": "replay", "source": {"folder": "."}}]})
    if options.station and not options.config:
        raise ConfigError("--station needs a --config: the station is one of that file")
    if options.publish and not (options.config and config.sinks()):
        raise ConfigError("--publish needs a --config with an mqtt section: it says where to")
    for name in recorded:
        options.station = options.station or config.station(name).name
    return _inspect(config, _station(config, options), options)


def _paths(config: Config, options: argparse.Namespace) -> list[str]:
    """Return what to replay, the pictures that were kept in place of journal:STATION."""
    from edge_agent.replay.kept import kept_pictures

    paths: list[str] = []
    for path in options.paths:
        name = path.removeprefix(JOURNAL)
        if name == path:
            paths.append(path)
        else:
            paths += kept_pictures(config.database.full_url(), name, options.since, options.until)
    return paths


def _inspect(config: Config, station: StationConfig, options: argparse.Namespace) -> int:
    """Replay, and print each inspection and the summary; return the exit code."""
    from tqdm import tqdm

    from edge_agent.replay.session import ReplayOptions, open_replay

    log = logging_to_stderr(verbose=False)
    wanted = ReplayOptions(
        _paths(config, options),
        options.out,
        every=options.every,
        overlays=options.overlays,
        again=options.again,
        workers=options.workers,
        cluster=options.distributed,
        publish=options.publish,
    )
    # The replay first: Ray installs signal handlers of its own.
    with open_replay(config, station, wanted) as replay, stopped_by_signals() as stop:
        hidden = True if options.json else None
        with tqdm(total=replay.total, initial=replay.before, unit="picture", leave=False, disable=hidden) as bar:
            for inspection, evidence in replay.inspections(stop):
                bar.clear()
                colour = sys.stdout.isatty()
                print(
                    as_json(inspection, evidence) if options.json else one_line(inspection, colour=colour), flush=True
                )
                bar.update()
        unsent = replay.send_rest()
    print(replay.finish(), file=sys.stderr if options.json else sys.stdout)
    if stop.is_set():
        log.warning("interrupted: the rest was not inspected; the same command continues from here")
        return INTERRUPTED
    if unsent:
        log.error("%d messages could not be sent; the next --publish with this --out sends them", unsent)
        return FAILED
    return OK


def _station(config: Config, options: argparse.Namespace) -> StationConfig:
    """Return the station that --station names, with what the command line changes of it. Raises ConfigError."""
    from edge_agent.line.calibration import read_calibration

    chosen = config.station(options.station)
    if options.class_name:
        chosen = chosen.model_copy(
            update={"detector": chosen.detector.model_copy(update={"class_name": options.class_name})}
        )
    if options.model or options.checkpoint:
        # Thresholds belong to their detector.
        changes = {"detector": _detector(chosen.detector, options), "threshold": None, "calibration": None}
        chosen = chosen.model_copy(update={**changes, "map_threshold": None})
    if options.threshold is not None:
        chosen = chosen.model_copy(update={"threshold": options.threshold, "calibration": None})
    if options.calibration:
        chosen = chosen.model_copy(update={"threshold": None, "calibration": read_calibration(options.calibration)})
    return chosen


def _detector(configured: DetectorConfig, options: argparse.Namespace) -> DetectorConfig:
    """Return the config's detector with another model or checkpoint; a model's prompts and method go with it."""
    from pydantic import ValidationError

    from edge_agent.config.detector import DetectorConfig

    keys = {key: getattr(configured, key) for key in configured.model_fields_set | {"class_name"}}
    if options.model:
        keys = {key: value for key, value in keys.items() if key not in ("checkpoint", "image_size", "trained_on")}
        keys["model"] = options.model
    if options.checkpoint:
        keys = {key: value for key, value in keys.items() if key not in ("method", "trained_on")}
        keys["checkpoint"] = options.checkpoint
    try:
        return DetectorConfig.model_validate(keys)
    except ValidationError as error:
        said = [f"--{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False)]
        raise ConfigError("\n".join(said)) from None
