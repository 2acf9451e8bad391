"""The `edge-agent` command: the only place with argument parsing, prints, exit codes and signals.

Imports of the rest happen inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent import __version__
from edge_agent.errors import ConfigError, EdgeAgentError

if TYPE_CHECKING:
    import logging
    import threading

    from edge_agent.config import Config, StationConfig
    from edge_agent.core import Evidence, Inspection

OK, FAILED, BAD_CONFIG = 0, 1, 78  # 2, usage, is argparse's own; 78 is EX_CONFIG, at which systemd does not restart
INTERRUPTED = 130  # as shells say it of Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 fine, 1 failed, 2 usage, 78 bad configuration."""
    options = parser().parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
        return code
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG
    except EdgeAgentError as error:
        print(f"edge-agent: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return FAILED


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        "edge-agent", description="Finds defects that nobody has trained it on, on a production line."
    )
    top.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="the daemon: inspect every new picture until stopped")
    _config_option(run)
    run.add_argument("--verbose", action="store_true", help="log every inspection, not only those that are not OK")
    run.set_defaults(run=_run)

    replay = commands.add_parser("replay", help="inspect stored pictures and videos, marked as simulated")
    replay.add_argument("paths", nargs="+", metavar="PATH", help="pictures, videos, folders or globs")
    replay.add_argument(
        "--config", type=Path, help="judge as a station of this file does; default: the embedded model as it comes"
    )
    replay.add_argument("--station", help="which station of the config; needed when it has several")
    replay.add_argument(
        "--class-name", type=_words, help="what they show, such as hazelnut (default: object, or as the config says)"
    )
    replay.add_argument(
        "--every", type=_count, default=1, metavar="N", help="of videos, take every N-th frame (default 1)"
    )
    replay.add_argument(
        "--threshold", type=_fraction, help="score in [0, 1] from which a picture is NotOK (default: as recommended)"
    )
    replay.add_argument(
        "--out",
        type=Path,
        default=Path("replay-out"),
        help="folder for overlays, journal and contact sheet (default ./replay-out)",
    )
    replay.add_argument("--json", action="store_true", help="one JSON object a picture on stdout")
    replay.add_argument(
        "--publish", action="store_true", help="publish to the config's broker too, marked as simulated"
    )
    replay.set_defaults(run=_replay)

    check = commands.add_parser("check", help="say whether a config file is good, with every error's place")
    _config_option(check)
    check.set_defaults(run=_check)

    doctor = commands.add_parser("doctor", help="say whether the agent would work on this machine")
    doctor.add_argument("--config", type=Path, help="also check what this config needs: models, disk, journal, broker")
    doctor.add_argument("--json", action="store_true", help="one JSON object a finding on stdout")
    doctor.set_defaults(run=_doctor)

    models = commands.add_parser("models", help="list the known backbones, or fetch one")
    models.set_defaults(run=_models)
    models.add_argument("--folder", type=Path, help="where backbones lie (default: the user's cache)")
    actions = models.add_subparsers(metavar="ACTION")
    fetch = actions.add_parser("fetch", help="download official weights, or take them from a folder or a mirror")
    fetch.add_argument("name", help="as `edge-agent models` lists it, or clip:MODEL/TAG")
    fetch.add_argument(
        "--from", dest="source", metavar="PLACE", help="folder or http(s) mirror, for factories without internet"
    )
    fetch.set_defaults(run=_fetch)
    return top


def _config_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--config", type=Path, help="default: $EDGE_AGENT_CONFIG, or ./config.yaml")


def _words(text: str) -> str:
    if text.strip():
        return text
    raise argparse.ArgumentTypeError("is empty: say what the pictures show, such as hazelnut")


def _count(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")


def _fraction(text: str) -> float:
    with suppress(ValueError):
        value = float(text)
        if 0 <= value <= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1")


def _run(options: argparse.Namespace) -> int:
    from edge_agent.config import default_path, load_config

    return _watch(load_config(options.config or default_path()), options)


def _watch(config: Config, options: argparse.Namespace) -> int:
    """The daemon; apart from the reading of its config, as what it imports takes seconds."""
    import logging

    from edge_agent import build
    from edge_agent.core import Evaluation, Sink
    from edge_agent.journal import Journal
    from edge_agent.judge import AlarmState
    from edge_agent.pipeline import Line
    from edge_agent.sinks.retention import Retention

    log = _logging(options.verbose)
    for warning in config.warnings:
        log.warning("%s", warning)
    if config.mqtt and config.mqtt.password:
        config.mqtt.password.read()  # missing ones are told now, not at every connection

    stations = build.stations(config, build.loader(config))
    for station in stations.values():
        log.info("station %s: %s, threshold %.3f", station.name, station.trace.model, station.rules.threshold)
    with closing(Journal.open(config.database.full_url())) as journal:
        gallery = build.gallery(config.evidence, stations)
        alarms = journal.last_alarm_states()
        sinks: list[Sink] = [
            Retention(gallery.sweep, journal, keep_days=config.database.keep_days, keep_gb=config.database.keep_gb)
        ]
        if config.mqtt:
            sinks.append(build.sender(config.mqtt, config.agent.name, journal, alarms))

        def report(inspection: Inspection, evidence: Evidence) -> None:
            quiet = inspection.verdict.evaluation is Evaluation.OK and inspection.verdict.alarm is None
            level = logging.DEBUG if quiet else logging.INFO
            log.log(level, "%s: %s", inspection.frame.station, _line(inspection, colour=False))

        line = Line(
            [build.source(one, journal, config.limits.max_megapixels) for one in config.stations],
            stations,
            gallery,
            journal,
            build.announce(config.mqtt),
            sinks,
            alarms={name: AlarmState(active) for name, active in alarms.items()},
            batch=config.limits.batch_size,
            report=report,
        )
        log.info("ready: watching %d station%s; stop with Ctrl-C", len(stations), "s" * (len(stations) != 1))
        try:
            with _stopped_by_signals() as stop:
                line.run(stop)
        finally:
            for sink in sinks:
                sink.close()
        log.info(
            "stopped: %d inspected, %d NotOK, %d NotDecidable",
            line.counts.inspected,
            line.counts.not_ok,
            line.counts.not_decidable,
        )
    return OK


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that the work ends in good order."""
    import signal
    import threading

    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop.set()) for number in numbers]
    try:
        yield stop
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _replay(options: argparse.Namespace) -> int:
    from edge_agent.config import Config, load_config

    if options.config:
        config = load_config(options.config)
    else:
        config = Config.model_validate({"stations": [{"name": "replay", "source": {"folder": "."}}]})
    if options.station and not options.config:
        raise ConfigError("--station needs a --config: the station is one of that file")
    if options.publish and not (options.config and config.mqtt):
        raise ConfigError("--publish needs a --config with an mqtt section: it says where to")
    return _inspect_stored(config, _station(config, options), options)


def _inspect_stored(config: Config, chosen: StationConfig, options: argparse.Namespace) -> int:
    """The replay of one station; apart, as _watch is."""
    import time

    from PIL import Image
    from tqdm import tqdm

    from edge_agent import build
    from edge_agent.config import EvidenceConfig
    from edge_agent.config_values import sqlite_url
    from edge_agent.contact_sheet import ContactSheet
    from edge_agent.core import Evaluation
    from edge_agent.journal import Journal
    from edge_agent.pictures import printable
    from edge_agent.pipeline import replay
    from edge_agent.sources.stored import StoredSource

    log = _logging(verbose=False)
    out = Path(os.path.abspath(options.out))
    source = StoredSource(
        chosen.name,
        options.paths,
        every=options.every,
        max_megapixels=config.limits.max_megapixels,
        bit_depth=chosen.source.bit_depth,
        leave_out=out,
    )
    station = build.station(chosen, build.loader(config), config.sha256)
    sheet = ContactSheet()
    counts = dict.fromkeys(Evaluation, 0)
    begun = time.monotonic()
    with closing(Journal.open(sqlite_url(out / "journal.db"))) as journal:
        evidence_config = EvidenceConfig.model_construct(
            folder=out / "evidence", originals="none", overlays="all", keep_days=1e9, keep_gb=1e9
        )
        gallery = build.gallery(evidence_config, {station.name: station})
        mqtt = config.mqtt if options.publish else None
        sender = build.replay_sender(mqtt, config.agent.name, journal) if mqtt else None
        with (
            _stopped_by_signals() as stop,
            tqdm(total=source.count, unit="picture", leave=False, disable=True if options.json else None) as bar,
        ):
            for inspection, evidence in replay(
                source, station, gallery, journal, build.announce(mqtt), batch=config.limits.batch_size, stop=stop
            ):
                counts[inspection.verdict.evaluation] += 1
                sheet.add(
                    inspection.frame.pixels,
                    inspection.reading,
                    inspection.verdict,
                    map_threshold=station.rules.map_threshold,
                    title=build.title(inspection),
                )
                bar.clear()
                told = _json(inspection, evidence) if options.json else _line(inspection, colour=sys.stdout.isatty())
                print(told, flush=True)
                bar.update()
        if sender:
            sender.close(60.0)
        unsent = journal.outbox_depth()[0] if sender else 0
    took = time.monotonic() - begun
    total = sum(counts.values())
    sheet_path = out / "contact_sheet.jpg"
    try:
        Image.fromarray(sheet.render()).save(sheet_path, quality=90)
    except OSError as error:
        raise EdgeAgentError(f"{sheet_path}: cannot be written ({error.strerror}): choose another --out") from error
    print(
        f"\n{total} picture{'s' * (total != 1)} in {took:.1f} s ({total / took:.1f} a second): "
        + ", ".join(f"{counts[evaluation]} {evaluation.value}" for evaluation in list(Evaluation)[:3])
        + f"\noverlays       {printable(out / 'evidence')}"
        + f"\ncontact sheet  {printable(sheet_path)}"
        + f"\njournal        {printable(out / 'journal.db')}",
        file=sys.stderr if options.json else sys.stdout,
    )
    if stop.is_set():
        log.warning("interrupted: the rest was not inspected")
        return INTERRUPTED
    if unsent:
        log.error("%d messages could not be sent; the next --publish with this --out sends them", unsent)
        return FAILED
    return OK


def _station(config: Config, options: argparse.Namespace) -> StationConfig:
    """The station that --station names, with what the command line changes of it."""
    names = [station.name for station in config.stations]
    if options.station is None and len(names) > 1:
        raise ConfigError(f"the config has {len(names)} stations: choose one with --station {'|'.join(names)}")
    name = options.station or names[0]
    if name not in names:
        raise ConfigError(f"the config has no station {name!r}; it has {', '.join(names)}")
    chosen = config.stations[names.index(name)]
    if options.class_name:
        chosen = chosen.model_copy(
            update={"detector": chosen.detector.model_copy(update={"class_name": options.class_name})}
        )
    if options.threshold is not None:
        chosen = chosen.model_copy(update={"threshold": options.threshold, "calibration": None})
    return chosen


def _check(options: argparse.Namespace) -> int:
    from edge_agent.config import default_path, load_config
    from edge_agent.describe import describe

    path = options.config or default_path()
    config = load_config(path)
    print(describe(config))
    print(f"\n{path} is good")
    return OK


def _doctor(options: argparse.Namespace) -> int:
    from edge_agent.config import load_config

    return _examine(load_config(options.config) if options.config else None, options)


def _examine(config: Config | None, options: argparse.Namespace) -> int:
    """The doctor's visit; apart, as _watch is."""
    import json
    from dataclasses import asdict

    from edge_agent.doctor import examine

    failed = False
    for finding in examine(config):
        failed |= finding.state == "failed"
        print(
            json.dumps(asdict(finding)) if options.json else f"{finding.state:8} {finding.name:9} {finding.text}",
            flush=True,
        )
    if not options.json:
        print("the agent would not work here: mend what failed" if failed else "the agent would work here")
    return FAILED if failed else OK


def _models(options: argparse.Namespace) -> int:
    from edge_agent.backbones.listing import clips_too, list_models, table
    from edge_agent.backbones.store import default_folder

    print(table(list_models(options.folder or default_folder())))
    print(f"\n{clips_too()}")
    return OK


def _fetch(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from edge_agent.backbones.fetch import fetch
    from edge_agent.backbones.store import default_folder

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
    return OK


def _json(inspection: Inspection, evidence: Evidence) -> str:
    """One inspection as the JSON object that a broker would get, with where the picture is from and what took how long."""
    import json

    from edge_agent.messages import result_message

    payload = result_message(inspection, evidence).payload
    return json.dumps({**payload, "origin": inspection.frame.origin, "timings_ms": dict(inspection.timings)})


def _line(inspection: Inspection, *, colour: bool) -> str:
    """One inspection on one line: verdict, score against threshold, milliseconds, picture, what else is to be said."""
    from edge_agent.build import title

    verdict, reading = inspection.verdict, inspection.reading
    word = f"{verdict.evaluation.value:12}"
    if colour:
        word = f"\033[{ {'OK': 32, 'NotOK': 31}.get(verdict.evaluation.value, 33) }m{word}\033[0m"
    score = f"score {reading.score:.3f} of {inspection.threshold:.3f}" if reading else " " * 20
    said = [f"{len(verdict.regions)} region{'s' * (len(verdict.regions) != 1)}"] if verdict.regions else []
    said += [verdict.reason] if verdict.reason else []
    said += [f"alarm {verdict.alarm.value}"] if verdict.alarm else []
    return (
        f"{word} {score}  {sum(inspection.timings.values()):5.0f} ms  {title(inspection)}  {'; '.join(said)}".rstrip()
    )


def _logging(verbose: bool) -> logging.Logger:
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    for noisy in ("PIL", "watchdog", "alembic", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return logging.getLogger("edge_agent")


if __name__ == "__main__":
    sys.exit(main())
